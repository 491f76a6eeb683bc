"""Mutation testing of the formulas: ``python -m tests.mutants [--count 400] [--seed 0] [--workers 2]``.

A seeded sample of arithmetic mutants of the functions in ``functions.json`` (file -> functions and the test files that
should notice) is run, each in a fresh fork: first against the tests that call its function, the quickest first, then
against all of its files. A mutant that no test notices has survived; those in
``survivors.json`` are known, each with the reason why it computes the same, and are run only with ``--known``. Exit
status 1 if fewer than 90 % of the others are killed.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.mutations import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
CPU_SECONDS = 240
"""A mutant whose tests take longer is killed: they hang. Of the processor, so that a busy machine kills none."""
GOAL = 0.9


class _Loader(importlib.abc.SourceLoader):
    """The mutated source in place of a module's own."""

    def __init__(self, path: str, source: str) -> None:
        self._path, self._source = path, source

    def get_filename(self, fullname: str) -> str:
        return self._path

    def get_data(self, path: str) -> bytes:
        return self._source.encode()


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, loader: _Loader) -> None:
        self._name, self._loader = name, loader

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(
            fullname, self._loader.get_filename(fullname), loader=self._loader
        )


def sample(count: int, seed: int) -> list[tuple[Mutant, list[str]]]:
    """The mutants to run, each with its test files."""
    table = json.loads((HERE / "functions.json").read_text(encoding="utf-8"))
    every = [
        (mutant, entry["tests"]) for file, entry in table.items() for mutant in mutants(ROOT, file, entry["functions"])
    ]
    chosen = random.Random(seed).sample(range(len(every)), min(count, len(every)))
    return [every[index] for index in sorted(chosen)]


def module_of(file: str) -> str:
    """Import name of a product file."""
    parts = file.removesuffix(".py").split("/")
    return ".".join(parts if parts[0] == "editbench" else ["editbench", *parts])


def covering_tests(file: str, tests: list[str]) -> dict[str, list[str]]:
    """:func:`tests.mutants.covering.covering` in a fork: every mutant's fork must find the product not imported."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _be_quiet()
        from tests.mutants.covering import covering

        with os.fdopen(writer, "w", encoding="utf-8") as out:
            json.dump(covering(file, tests), out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as given:
        text = given.read()
    os.waitpid(child, 0)
    found: dict[str, list[str]] = json.loads(text)
    return found


def _be_quiet() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)


def survives(mutant: Mutant, tests: list[str]) -> bool:
    """Whether the tests pass with the mutant in place; run in a fork, which has torch and pytest already."""
    child = os.fork()
    if child == 0:
        _be_quiet()
        import pytest

        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        loader = _Loader(str(ROOT / mutant.file), mutant.source(ROOT))
        sys.meta_path.insert(0, _Finder(module_of(mutant.file), loader))
        sys.dont_write_bytecode = True
        status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests])
        os._exit(int(status != 0))
    return os.waitpid(child, 0)[1] == 0


def main() -> int:
    """Run the sample and say what survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--file", help="only mutants of this file")
    parser.add_argument("--known", action="store_true", help="run the known survivors too")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.chdir(ROOT)
    import hypothesis  # noqa: F401 - imported once, here, for all forks
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)
    every = [one for one in sample(options.count, options.seed) if options.file in (None, one[0].file)]
    known = json.loads((HERE / "survivors.json").read_text(encoding="utf-8"))
    chosen = [one for one in every if options.known or one[0].key not in known]
    begun = time.monotonic()
    alive: list[Mutant] = []
    with ThreadPoolExecutor(options.workers) as pool:
        files = {mutant.file: tests for mutant, tests in chosen}
        calls = dict(zip(files, pool.map(lambda file: covering_tests(file, files[file]), files), strict=True))

        def lives_through(one: tuple[Mutant, list[str]]) -> bool:
            own = calls[one[0].file].get(one[0].function, [])
            return (not own or survives(one[0], own)) and survives(*one)  # all: others may share what a fixture made

        for (mutant, _), lives in zip(chosen, pool.map(lives_through, chosen), strict=True):
            if lives:
                alive.append(mutant)
                known_as = known.get(mutant.key)
                print(
                    f"survived: line {mutant.line}: {mutant.key}" + (f" ({known_as})" if known_as else ""), flush=True
                )
    news = [mutant for mutant in alive if mutant.key not in known]
    killed, equal = len(chosen) - len(alive), len(every) - len(chosen) + len(alive) - len(news)
    share = killed / (killed + len(news)) if killed + len(news) else 1.0
    minutes, used = (time.monotonic() - begun) / 60, resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{len(every)} mutants: {killed} killed, {len(news)} survived, {equal} known to compute the same; {share:.1%} "
        f"of the others are killed; {minutes:.0f} min, {(used.ru_utime + used.ru_stime) / 60:.0f} of the processor"
    )
    return int(share < GOAL)


if __name__ == "__main__":
    sys.exit(main())
