"""Checks of config values, and did-you-means for unknown names."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def _require(values: Mapping[str, Any], fits: Callable[[Any], bool], wanted: str) -> None:
    for name, value in values.items():
        if not fits(value):
            raise ValueError(f"{name} is {value!r}; it must be {wanted}")


def at_least(bound: float, **values: float | None) -> None:
    """Every value given must be ``bound`` or more (None is left alone)."""
    _require(values, lambda value: value is None or value >= bound, f"at least {bound}")


def whole_number(least: int, **values: object) -> None:
    """Every value must be a whole number, ``least`` or more."""
    _require(values, lambda value: type(value) is int and value >= least, f"a whole number from {least}")


def above_zero(**values: float) -> None:
    """Every value given must be positive."""
    _require(values, lambda value: value > 0, "positive")


def one_of(choices: Sequence[str], **values: str) -> None:
    """Every value given must be among ``choices``."""
    _require(values, lambda value: value in choices, f"one of {', '.join(map(repr, choices))}")


def rising(**values: Sequence[int]) -> None:
    """Every list given must hold at least one number, each larger than the one before."""
    lists = {name: list(value) for name, value in values.items()}
    _require(lists, lambda value: value and value == sorted({*value}), "a rising list of numbers, at least one")


def suggestion(name: str, known: Iterable[str], kind: str = "") -> str:
    """A sentence for an unknown name: its new name if it was renamed, else the nearest known one, else all of them.

    ``kind`` is a section of ``renamed.json`` ("key", "method", "command").
    """
    if renamed := json.loads((Path(__file__).parent / "renamed.json").read_text("utf-8")).get(kind, {}).get(name):
        return renamed if " " in renamed else f"did you mean {renamed!r}?"
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(options) or 'none'}"


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for an unregistered name ("unknown method 'romee'; did you mean 'rome'?")."""
    return ValueError(f"unknown {kind} {name!r}; {suggestion(name, known, kind)}")
