"""Kills, refusals of the operating system, and too little memory, at every writing operation of a run."""

from __future__ import annotations

import json
import random
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.torture.operations import Act, Operations, in_child
from tests.torture.outcomes import Ending, Outcome
from tests.torture.small import Runs

KINDS = ("finetune", "nse", "scen", "grace", "retrieval")
"""One method for each kind of storage: weights; weights and keys; experts; a journal; facts."""
FURTHER = 50  # operations, drawn at random, of each other method
ERRORS = ("ENOSPC", "EIO", "EACCES", "short")
MEGABYTES = (0, 1, 2, 4, 8, 16, 32, 64)  # of memory above what the process has


def synced(runs: Runs, method: str) -> list[bool]:
    """Of each writing operation of a run: whether it syncs a file."""
    with runs.place() as place:

        def work() -> str:
            operations = Operations(place / "run", None)
            operations.start()
            runs.run(method, place / "run")
            return json.dumps(operations.synced)

        return list(json.loads(in_child(work, place / "log")[1]))


def points(runs: Runs, methods: Sequence[str], most: int | None = None) -> Iterator[tuple[str, int, bool]]:
    """Methods in turn, each with the next of its operations in a mixed order, and whether that syncs a file.

    At most so many operations a method.
    """
    draw = random.Random(0)
    left: dict[str, list[tuple[int, bool]]] = {}
    waiting = draw.sample([*methods], len(methods))
    while waiting:
        for method in [*waiting]:
            if method not in left:
                every = list(enumerate(synced(runs, method)))
                left[method] = draw.sample(every, len(every) if most is None else min(most, len(every)))
            if not left[method]:
                waiting.remove(method)
                continue
            yield method, *left[method].pop()


def kills(runs: Runs, methods: Sequence[str] = KINDS, most: int | None = None) -> Iterator[Outcome]:
    """A kill before an operation, and one with a torn file before a sync; then the same command."""
    for method, number, syncs in points(runs, methods, most):
        for name in ("kill", "torn") if syncs else ("kill",):
            yield _stopped(runs, method, Act(name, number))


def errors(runs: Runs) -> Iterator[Outcome]:
    """A refusal of the operating system; then the same command."""
    for number, (method, at, _) in enumerate(points(runs, KINDS)):
        yield _stopped(runs, method, Act(ERRORS[number % len(ERRORS)], at))


def _stopped(runs: Runs, method: str, act: Act) -> Outcome:
    wanted, what = runs.wanted(method), f"{method}: {act.name} at operation {act.number}"
    with runs.place() as place:

        def work() -> str:
            Operations(place / "run", act).start()
            return runs.run(method, place / "run")

        status, said = in_child(work, place / "log")
        return _again(runs, method, place, what, status, said, wanted)


def _again(runs: Runs, method: str, place: Path, what: str, status: int, said: str, wanted: str) -> Outcome:
    """What the same command makes of a run that was stopped in this way."""
    if status == 0 and said != wanted:
        return Outcome(what, Ending.SILENT, "it went on, with other results")
    if status > 0 and not _named(said, place):
        return Outcome(what, Ending.LOST, f"an error that names nothing: {said}")
    again, found = in_child(lambda: runs.run(method, place / "run"), place / "log")
    if again != 0:
        return Outcome(what, Ending.LOST, f"after {said or 'a kill'}: {found}")
    if found != wanted:
        return Outcome(what, Ending.SILENT, f"after {said or 'a kill'} it ends with other results")
    return Outcome(what, Ending.SURVIVED if status <= 0 else Ending.REFUSED, said)


def _named(said: str, place: Path) -> bool:
    """Whether an error is one of those that become a line, and says which file or how to go on."""
    kind, _, text = said.partition(": ")
    return kind in ("ResultsError", "DamagedFile", "OSError", "PermissionError", "LedgerError", "ValueError") and (
        str(place) in text or ";" in text
    )


def memory(runs: Runs) -> Iterator[Outcome]:
    """Too little memory; then the same command with enough."""
    for method in KINDS:
        for megabytes in MEGABYTES:
            with runs.place() as place:

                def work(method: str = method, place: Path = place, megabytes: int = megabytes) -> str:
                    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                    limit = has + (megabytes << 20)
                    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
                    return runs.run(method, place / "run")

                status, said = in_child(work, place / "log")
                words = ("memory", "alloc", "systemerror")  # Python's own without room for the error it means
                short = status > 0 and any(word in said.lower() for word in words)
                named = f"ResultsError: {place}; {said}" if short else said  # a line of the operating system's own
                yield _again(runs, method, place, f"{method}: {megabytes} MB", status, named, runs.wanted(method))
