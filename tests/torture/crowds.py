"""Hostile run folders beside honest ones, and many runs in one folder while tables are made of it."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from editbench.results.leaderboard import collect
from tests.torture.operations import in_child
from tests.torture.outcomes import Ending, Outcome
from tests.torture.small import Runs

HOSTILE, CROWD = 200, 16
LONGEST = 20.0  # seconds in which a table must stand beside a hostile run


def _replaced(name: str, content: Callable[[random.Random], bytes]) -> Callable[[Path, random.Random], None]:
    def put(folder: Path, draw: random.Random) -> None:
        (folder / name).write_bytes(content(draw))

    return put


def _pipe(folder: Path, draw: random.Random) -> None:
    file = folder / draw.choice(("scores.jsonl", "run.json", "manifest.json", "chain.jsonl"))
    file.unlink()
    os.mkfifo(file)


def _device(folder: Path, draw: random.Random) -> None:
    file = folder / draw.choice(("scores.jsonl", "edits.jsonl", "config.yaml"))
    file.unlink()
    file.symlink_to("/dev/zero")


def _changed(folder: Path, draw: random.Random) -> None:
    """A value of run.json of another kind."""
    file = folder / "run.json"
    info = json.loads(file.read_text())
    value = draw.choice([None, [], {}, "\x1b[2J\u202e", 1e308, -1, "9" * 5000, True, {"a": {"a": []}}])
    info[draw.choice([*info])] = value
    file.write_text(json.dumps(info))


WAYS = (
    _replaced("run.json", lambda draw: draw.randbytes(draw.randrange(1, 4000))),
    _replaced("run.json", lambda draw: b'{"a":' * 50_000),
    _replaced("run.json", lambda draw: b'{"format": 2, "status": "done", "summary": {"final": 1e999}}'),
    _replaced("scores.jsonl", lambda draw: b'{"stage": "final", "scores": {"a": ' + b"9" * 100_000 + b"}}\n"),
    _replaced("scores.jsonl", lambda draw: b"[" * 100_000),
    _replaced("manifest.json", lambda draw: b'{"files": {"../../etc/passwd": {"bytes": 1}}, "root": "x"}'),
    _replaced("chain.jsonl", lambda draw: draw.randbytes(2000)),
    _replaced("config.yaml", lambda draw: b"a: &a [*a]\n"),
    _pipe,
    _device,
    _changed,
)


def hostile(runs: Runs) -> Iterator[Outcome]:
    """One hostile folder at a time beside two honest runs, whose rows must stay."""
    draw = random.Random(3)
    with runs.place() as place:
        for method in ("unedited", "finetune"):
            runs.run(method, place)
            (place / "results/run").rename(place / f"results/{method}")
        honest = {row["method"]: row for row in collect(place / "results")}
        for number in range(HOSTILE):
            way = WAYS[number % len(WAYS)]
            bad = shutil.copytree(place / "results/finetune", place / "results/bad")
            way(bad, draw)
            begun = time.monotonic()
            status, said = in_child(lambda: json.dumps(collect(place / "results"), default=str), place / "log")
            shutil.rmtree(bad)
            yield _beside(f"folder {number}", honest, status, said, time.monotonic() - begun)


def _beside(name: str, honest: dict, status: int, said: str, seconds: float) -> Outcome:
    if status != 0 or seconds > LONGEST:
        return Outcome(name, Ending.LOST, f"no table in {seconds:.0f} s: {said[:200]}")
    rows = json.loads(said)
    good = [row for row in rows if row["status"] == "done"]
    wanted = [json.loads(json.dumps(row, default=str)) for row in honest.values()]
    if sorted(map(str, good)) != sorted(map(str, wanted)):
        return Outcome(name, Ending.SILENT, f"{len(good)} rows count as done")
    return Outcome(name, Ending.REFUSED if len(rows) > len(good) else Ending.SILENT)


def crowd(runs: Runs) -> Iterator[Outcome]:
    """Many runs at once in one results folder, with one cache; tables are made of it all the time."""
    with runs.place() as place:
        wanted, waiting = {}, []
        for number in range(CROWD):
            method = ("unedited", "finetune", "memit", "scen")[number % 4]
            wanted[number] = runs.wanted(method)
            pid = os.fork()
            if pid == 0:
                config = runs.config(method, place)
                config.results.name = f"run-{number}"
                os._exit(_quietly(config, place / f"log-{number}"))
            waiting.append(pid)
        tables, ended = 0, {}
        while waiting:
            found, status = os.waitpid(waiting[0], os.WNOHANG)
            if found:
                ended[len(ended)] = os.waitstatus_to_exitcode(status)
                waiting.pop(0)
            if (place / "results").is_dir():
                rows = collect(place / "results")
                tables += 1
                if odd := [row for row in rows if row["status"] not in ("running", "done", "interrupted")]:
                    yield Outcome("a table on the way", Ending.SILENT, str(odd[0]["reason"]))
        rows = {row["run"]: row for row in collect(place / "results")}
        for number in range(CROWD):
            done = ended[number] == 0 and rows.get(f"run-{number}", {}).get("status") == "done"
            said = "" if done else (place / f"log-{number}").read_text()[-300:]
            yield Outcome(f"run {number} of {CROWD}, {tables} tables", Ending.SURVIVED if done else Ending.LOST, said)


def _quietly(config: object, log: Path) -> int:
    from editbench import single_run

    with open(log, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            single_run.run(config)  # type: ignore[arg-type]
        except BaseException as error:
            file.write(f"{type(error).__name__}: {error}")
            file.flush()
            return 1
    return 0
