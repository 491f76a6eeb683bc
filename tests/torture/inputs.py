"""Generated input: records, ledgers, settings and command lines that nobody would write. Each is used or refused."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from editbench import cli, datasets, plugins
from editbench.config import ProtocolConfig, StreamConfig
from editbench.files import ResultsError
from editbench.ledger_files import LedgerFiles
from tests.small_runs import counterfact_rows
from tests.torture.outcomes import Ending, Outcome
from tests.torture.small import Runs

IN_PROCESS, COMMANDS = 1_000_000, 2_000
NAMED = (ValueError, OSError)  # what becomes one line; a RecursionError, a KeyError or a TypeError would be a traceback
PIECES = (
    *(
        b"",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"{}",
        b"[]",
        b"null",
        b"NaN",
        b"1e999",
        b"-0",
        b"\\ud800",
        b'"',
        b"{",
        b"]",
    ),
    *("‮".encode(), "ＡＢ".encode(), "e\u0301".encode(), b"\x1b[2J", b"\r\n", b"," * 50, b"[" * 3000, b"9" * 400),
)
WORDS = (
    "method=rome",
    "stream.edits=-1",
    "x",
    "=",
    "+experiment=",
    "--help",
    "-m",
    "",
    "\x00",
    "é",
    "a=b=c",
    "~method",
)
WORDS = (
    *WORDS,
    "method.layer=[",
    "results.dir=",
    "--json",
    "leaderboard",
    "run",
    "list",
    "../..",
    "stream={}",
    "verify",
)


def mutated(data: bytes, draw: random.Random) -> bytes:
    """The data with some bytes turned, cut, doubled, or replaced by a piece that parsers dislike."""
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice((0, 1, 1, 4, 40)))
        data = data[:at] + draw.choice((draw.choice(PIECES), draw.randbytes(1), data[at:end] * 2)) + data[end:]
    return data


def tried(what: str, work: Callable[[], object]) -> Outcome:
    """Whether it was used, or refused by an error of the kind that becomes a line."""
    try:
        work()
    except NAMED as error:
        return Outcome(what, Ending.REFUSED if str(error).strip() else Ending.LOST, repr(error))
    except SystemExit:
        return Outcome(what, Ending.REFUSED)
    except BaseException as error:
        return Outcome(what, Ending.LOST, f"{type(error).__name__}: {error}"[:300])
    return Outcome(what, Ending.SURVIVED)


def records(runs: Runs, most: int = IN_PROCESS // 2) -> Iterator[Outcome]:
    """Files of records, as JSON, JSON Lines and CSV, read by every data set."""
    draw, names = random.Random(4), sorted(plugins.entry_points(plugins.DATASETS))
    rows = list(counterfact_rows(2))
    lines = "\n".join(json.dumps(row) for row in rows)
    table = "prompt,subject,target\n" + "\n".join(f"{r['prompt']},{r['subject']},{r['target_new']}" for r in rows)
    forms = {".json": json.dumps(rows).encode(), ".jsonl": lines.encode(), ".csv": table.encode()}
    with runs.place() as place:
        for number in range(most):
            ending, name = draw.choice([*forms]), draw.choice(names)
            file = place / f"data{ending}"
            file.write_bytes(mutated(forms[ending], draw))
            skip = draw.choice(("raise", "skip"))
            yield tried(f"{number}: {name}{ending}", partial(datasets.load, name, file, on_error=skip))


def ledgers(runs: Runs, most: int = IN_PROCESS // 10) -> Iterator[Outcome]:
    """Ledgers with a file altered: read as they were, or refused."""
    draw = random.Random(5)
    with runs.place() as place:
        files = LedgerFiles(place / "ledger")
        for number in range(3):
            tensors, memory = {"left": torch.ones(3, 1)}, {"keys": ({"k": torch.ones(4)}, {"n": number})}
            files.append([f"r{number}"], ["w"], tensors, {"changes": []}, memory)
        whole = {path.name: path.read_bytes() for path in (place / "ledger").iterdir()}
        known = _content(place / "ledger")
        for number in range(most):
            name = draw.choice([*whole])
            data = mutated(whole[name], draw)
            (place / "ledger" / name).write_bytes(data)
            try:
                found = _content(place / "ledger")
                fine = found == known[: len(found)] or (name == "index.jsonl" and len(found) < len(known))
                ending, said = Ending.SURVIVED if fine else Ending.SILENT, repr(data[:80])
            except ResultsError as error:
                ending, said = Ending.REFUSED, str(error)
            except BaseException as error:
                ending, said = Ending.LOST, f"{type(error).__name__}: {error}"[:300]
            yield Outcome(f"{number}: {name}", ending, said)
            shutil.rmtree(place / "ledger")
            (place / "ledger").mkdir()
            for other, content in whole.items():
                (place / "ledger" / other).write_bytes(content)


def _content(folder: Path) -> list[str]:
    files = LedgerFiles(folder)
    found = []
    for number, batch in enumerate(files.index()):
        tensors, _ = files.load(number, batch)
        memory = {name: files.load_memory(blob)[0]["k"].tolist() for name, blob in batch.memory.items()}
        found.append(f"{batch.ids} {batch.weights} { ({k: v.tolist() for k, v in tensors.items()}) } {memory}")
    return found


def settings(_: Runs, most: int = IN_PROCESS // 5) -> Iterator[Outcome]:
    """Values of settings of any kind."""
    draw = random.Random(6)
    values = (
        None,
        -1,
        0,
        1,
        2**70,
        0.5,
        float("nan"),
        float("inf"),
        "",
        "all",
        "every:0",
        "x" * 9000,
        [],
        [1, "a"],
        {},
        True,
    )
    kinds = (StreamConfig, ProtocolConfig)
    for number in range(most):
        kind = draw.choice(kinds)
        names = draw.sample([*kind.__dataclass_fields__], 2)
        given = {name: draw.choice(values) for name in names}
        outcome = tried(f"{number}: {kind.__name__}({given})", partial(kind, **given))
        yield (
            outcome if not outcome.said.startswith("TypeError") else Outcome(outcome.what, Ending.REFUSED, outcome.said)
        )


def arguments(_: Runs, most: int = IN_PROCESS // 5) -> Iterator[Outcome]:
    """Command lines, as far as they are parsed."""
    draw, parser = random.Random(7), cli._parser()
    for number in range(most):
        given = [draw.choice(WORDS) for _ in range(draw.randrange(5))]
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield tried(f"{number}: {given}", partial(parser.parse_args, given))


def commands(runs: Runs, most: int = COMMANDS) -> Iterator[Outcome]:
    """The same by the real command: no traceback, and the status says what happened."""
    draw = random.Random(8)
    with runs.place() as place:
        for number in range(most):
            given = [draw.choice(WORDS).replace("\x00", "") for _ in range(draw.randrange(1, 5))]
            if given[0] == "run":  # it is to be understood, not done
                given.append("model.path=nowhere")
            command = [sys.executable, "-m", "editbench.cli", *given]
            done = subprocess.run(
                command, cwd=place, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300
            )
            known = done.returncode in (0, 1, 2) and "Traceback" not in done.stderr
            ending = Ending.SURVIVED if done.returncode == 0 else Ending.REFUSED
            yield Outcome(f"{number}: {given}", ending if known else Ending.LOST, done.stderr[-300:])
