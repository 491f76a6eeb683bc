"""Every region of every file of a run, and of what runs share in the cache, with one bit turned or its end cut off."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from editbench.files import ResultsError
from editbench.results.run_folder import read_run
from editbench.results.schema import LOCK_FILE
from tests.torture.operations import Act, Operations, in_child
from tests.torture.outcomes import Ending, Outcome
from tests.torture.small import Runs, decided
from tests.torture.stops import KINDS, synced

REGIONS = 24  # of each file


def altered(file: Path, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Contents that are not the file's, by what was done."""
    whole = file.read_bytes()
    step = max(1, len(whole) // REGIONS)
    for start in range(0, len(whole), step):
        at = min(len(whole) - 1, start + draw.randrange(step))
        turned = whole[at] ^ (1 << draw.randrange(8))
        yield f"a bit at {at}", whole[:at] + bytes([turned]) + whole[at + 1 :]
    for size in {0, len(whole) // 2, len(whole) - 1}:
        yield f"cut at {size}", whole[:size]


def runs_altered(runs: Runs) -> Iterator[Outcome]:
    """Files of finished runs, and of runs that were killed in their middle."""
    draw = random.Random(1)
    for method in KINDS:
        with runs.place() as place:
            wanted = runs.wanted(method)
            whole, killed = place / "whole", place / "killed"
            runs.run(method, whole)

            middle = Act("kill", 2 * len(synced(runs, method)) // 3)

            def stopped(method: str = method, killed: Path = killed, middle: Act = middle) -> None:
                Operations(killed, middle).start()
                runs.run(method, killed)

            in_child(stopped, place / "log")
            for start in (whole, killed):
                for file in sorted(path for path in (start / "results/run").rglob("*") if path.is_file()):
                    if file.name != LOCK_FILE:
                        yield from _files(runs, method, start, file, wanted, draw)


def _files(runs: Runs, method: str, start: Path, file: Path, wanted: str, draw: random.Random) -> Iterator[Outcome]:
    whole, folder = file.read_bytes(), start / "results/run"
    for what, content in altered(file, draw):
        if content == whole:
            continue
        file.write_bytes(content)
        name = f"{method}, {start.name}: {file.relative_to(folder)}, {what}"
        try:
            info = read_run(folder)
            said, known = str(info["reason"]), info["status"]
        except ResultsError as error:
            said, known = str(error), "damaged"
        file.write_bytes(whole)
        if known == "damaged":
            yield Outcome(name, Ending.REFUSED if str(folder) in said else Ending.LOST, said)
        elif start.name == "killed":
            yield _gone_on(runs, method, start, file, content, name, wanted)
        else:
            yield Outcome(name, Ending.SILENT, f"it counts as {known}")


def _gone_on(runs: Runs, method: str, start: Path, file: Path, content: bytes, name: str, wanted: str) -> Outcome:
    """What looks as a kill may leave it (a torn last line, a state that is missing) must end as if nothing was."""
    with runs.place() as place:
        shutil.copytree(start, place / "killed")
        (place / "killed" / file.relative_to(start)).write_bytes(content)
        status, said = in_child(lambda: runs.run(method, place / "killed"), place / "log")
        if status == 0:
            return Outcome(name, Ending.SURVIVED if said == wanted else Ending.SILENT, said[:200])
        return Outcome(name, Ending.REFUSED if str(place) in said else Ending.LOST, said)


def caches_altered(runs: Runs) -> Iterator[Outcome]:
    """Files of the cache, which another run then reads."""
    draw = random.Random(2)
    for method in KINDS:
        with runs.place() as place:
            wanted = runs.wanted(method)
            runs.run(method, place / "first")
            cache = place / "first/cache"
            for file in sorted(path for path in cache.rglob("*") if path.is_file()):
                several = list(altered(file, draw))
                for what, content in draw.sample(several, min(6, len(several))):
                    yield _with_cache(runs, method, place, cache, file, content, what, wanted)


def _with_cache(
    runs: Runs, method: str, place: Path, cache: Path, file: Path, content: bytes, what: str, wanted: str
) -> Outcome:
    other = place / "other"
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(cache, other / "cache")
    (other / "cache" / file.relative_to(cache)).write_bytes(content)
    name = f"{method}: {file.relative_to(cache)}, {what}"
    status, said = in_child(lambda: runs.run(method, other), place / "log")
    if status == 0:
        same = said == wanted == decided(other / "results/run")
        return Outcome(name, Ending.SURVIVED if same else Ending.SILENT, said[:200])
    return Outcome(name, Ending.REFUSED if str(other) in said else Ending.LOST, said)
