"""Checks of config values, and did-you-means for unknown names."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_LONGEST_NAME = 200  # bytes: file systems take 255, and temporary names are longer
_NAME_ADVICE = "use letters, digits and - _ . = +, a letter or digit first"
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10))}
"""Names that Windows keeps for devices, whatever their endings."""


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


def not_empty(**values: str) -> None:
    """Every value given must be a text that is not empty."""
    _require(values, lambda value: value != "", "a text that is not empty; leave it out for the default")


def one_of(choices: Sequence[str], **values: str) -> None:
    """Every value given must be among ``choices``."""
    _require(values, lambda value: value in choices, f"one of {', '.join(map(repr, choices))}")


def rising(**values: Sequence[int]) -> None:
    """Every list given must hold at least one number, each larger than the one before."""
    lists = {name: list(value) for name, value in values.items()}
    _require(lists, lambda value: value and value == sorted({*value}), "a rising list of numbers, at least one")


def folder_name(**values: str) -> None:
    """Every value must name a folder on any system, whatever it is joined to: no path, no device, no leading dash."""
    for name, value in values.items():
        if why := _no_folder_name(value):
            raise ValueError(f"{name} is {value!r}, which is not a folder name ({why}); {_NAME_ADVICE}")


def _no_folder_name(value: str) -> str | None:
    if not value:
        return "it is empty"
    if len(value.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
        return f"it has more than {_LONGEST_NAME} bytes"
    if not value.isprintable() or set(value) & set('\\/:*?"<>|'):
        return "it has characters that a name cannot have"
    if value[0] in "-.~ " or value[-1] in ". ":
        return "it begins or ends with a character that a name cannot begin or end with"
    return "it is a device's" if value.partition(".")[0].upper() in _DEVICES else None


def suggestion(name: str, known: Iterable[str], kind: str = "") -> str:
    """A sentence for an unknown name: its new name if it was renamed, else the nearest known one, else all of them.

    ``kind`` is a section of ``renamed.json`` ("key", "method", "command"), or "setting": a key of a method without its
    "method.". Case, "-" and "_" do not count.
    """
    options, new = sorted(known), renamed(name, kind)
    if new and " " in new:
        return new
    near = [new] if new else _near(str(name).casefold(), options)
    # What has another name may not be there at all: "eps" is "radius" in methods that have one.
    return f"did you mean {near[0]!r}?" if near and near[0] in options else f"known: {', '.join(options) or 'none'}"


def _near(text: str, options: Sequence[str]) -> list[str]:
    """Options that a name, casefolded, may mean: by its spelling, by their initials, by letters."""
    near = [option for option in options if _spelt(option) == _spelt(text)]
    near = near or [option for option in options if initials(option.casefold()) == text]
    plain = {option.casefold(): option for option in options}
    return near or [plain[one] for one in difflib.get_close_matches(text, plain, n=1, cutoff=0.6)]


def renamed(name: str, kind: str) -> str | None:
    """The name here of what had another one earlier, or has it in other tools, or a sentence; None for others."""
    start = "method." if kind == "setting" else ""
    every = json.loads((Path(__file__).parent / "renamed.json").read_text("utf-8"))
    names = {_spelt(old): new for old, new in every.get("key" if start else kind, {}).items()}
    new: str | None = names.get(_spelt(f"{start}{name}"))
    return new if new is None or " " in new else new.removeprefix(start)


def initials(name: str) -> str | None:
    """The initials of a name of several words, as "lr" of "learning_rate"; None of a single word."""
    return "".join(word[:1] for word in name.split("_")) if "_" in name else None


def _spelt(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for an unregistered name ("unknown method 'romee'; did you mean 'rome'?")."""
    return ValueError(f"unknown {kind} {name!r}; {suggestion(name, known, kind)}")
