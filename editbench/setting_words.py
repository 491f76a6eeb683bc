"""Settings in words: the fields of config dataclasses with what their docstrings, types and checks say of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, get_type_hints

_FIELD = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.M)
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`|``([^`]*)``|`([^`]*)`")
_CHECK = re.compile(r" (?:is|=).*?; (?:it must be )?([^\n]*)")
NO_SETTING: dict[str, Any] = {"int": -(10**9), "float": float("-inf"), "str": "\0", "Any": "\0", "list": []}
"""By type, a value that no check of one lets pass."""


@dataclass(frozen=True)
class Setting:
    """A setting: a field of a config dataclass."""

    key: str  # "method.layers"
    words: str  # in one line; empty if the docstring has none
    type: str  # as annotated, with null for None ("int | null")
    default: Any  # of the dataclass, without a model's hparams; None also where there is none
    declared: str  # "editbench.config.StreamConfig"
    allowed: str  # as its check says ("at least 1", "one of 'first', 'random'"); empty if it has none

    @property
    def line(self) -> str:
        """The first sentence of the words, without its full stop."""
        return re.split(r"\. (?=[A-Z])", self.words)[0].rstrip(".:;")


def settings_of(cls: type, section: str = "") -> Iterator[Setting]:
    """The settings of a config dataclass, those of dataclasses inside it and of base classes included."""
    prefix, hints = f"{section}." if section else "", get_type_hints(cls)
    for field in fields(cls):
        if is_dataclass(inside := hints[field.name]):
            assert isinstance(inside, type)
            yield from settings_of(inside, f"{prefix}{field.name}")
            continue
        owner = next(c for c in cls.__mro__ if field.name in vars(c).get("__annotations__", {}))
        written = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
        type_, default = re.sub(r"\bNone\b", "null", written), _default(field)
        words, allowed = words_of(cls).get(field.name, ""), _allowed(cls, field.name, type_)
        declared = f"{owner.__module__}.{owner.__qualname__}"
        yield Setting(f"{prefix}{field.name}", words, type_, default, declared, allowed)


def words_of(cls: type) -> dict[str, str]:
    """The words for each field, from the ``Attributes`` of the class's docstring and of its base classes'."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, attributes = inspect.cleandoc(vars(base).get("__doc__") or "").partition("Attributes:\n")
        for name, words in _FIELD.findall(attributes.partition("\n\n")[0]):
            found[name] = _ROLE.sub(lambda role: next(filter(None, role.groups())), " ".join(words.split()))
    return found


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def _allowed(cls: type, name: str, type_: str) -> str:
    """The values that the dataclass's own check allows, in the words with which it refuses one that no setting has."""
    kind = next((kind for kind in NO_SETTING if type_.startswith(kind)), None)
    if kind is None:
        return "true or false" if type_ == "bool" else ""
    needed = {f.name: "-" for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
    try:
        cls(**{**needed, name: NO_SETTING[kind]})
    except ValueError as error:
        _, named, after = str(error).partition(name)
        if named and (found := _CHECK.match(after)):
            return found[1]
    return ""
