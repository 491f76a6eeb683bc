"""Checks of config values, and did-you-means for unknown names."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path


def at_least(bound: float, **values: float | None) -> None:
    """Every value given must be ``bound`` or more (None is left alone)."""
    for name, value in values.items():
        if value is not None and not value >= bound:
            raise ValueError(f"{name} is {value}; it must be at least {bound}")


def whole_number(least: int, **values: object) -> None:
    """Every value must be a whole number, ``least`` or more."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is {value!r}; it must be a whole number from {least}")


def above_zero(**values: float) -> None:
    """Every value given must be positive."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be positive")


def one_of(choices: Sequence[str], **values: str) -> None:
    """Every value given must be among ``choices``."""
    for name, value in values.items():
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}")


def rising(**values: Sequence[int]) -> None:
    """Every list given must hold at least one number, each larger than the one before."""
    for name, value in values.items():
        if not value or any(b <= a for a, b in zip(value, value[1:], strict=False)):
            raise ValueError(f"{name} is {list(value)}; it must be a rising list of numbers, at least one")


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
