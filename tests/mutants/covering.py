"""Which tests call which functions, and how long they take: a mutant meets the quickest of its own tests first."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pytest


class Recorder:
    """A pytest plugin: for each function of one file, the tests that called it, quickest first."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: dict[str, list[tuple[float, str]]] = defaultdict(list)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note what the test calls, its fixtures included."""
        seen: set[str] = set()

        def note(frame: Any, event: str, arg: Any) -> None:
            code = frame.f_code
            if event == "call" and code.co_filename.endswith(self._file):
                seen.add(getattr(code, "co_qualname", code.co_name).partition(".<locals>")[0])

        begun = time.perf_counter()
        sys.setprofile(note)
        yield
        sys.setprofile(None)
        for name in seen:
            self._found[name].append((time.perf_counter() - begun, item.nodeid))

    def by_function(self) -> dict[str, list[str]]:
        """Names of tests by qualified name of function."""
        return {name: [test for _, test in sorted(tests)] for name, tests in self._found.items()}


def covering(file: str, tests: Sequence[str]) -> dict[str, list[str]]:
    """Run ``tests`` once and see what calls the functions of ``file``."""
    recorder = Recorder(file)
    pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests], plugins=[recorder])
    return recorder.by_function()
