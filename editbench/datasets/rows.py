"""Raw records with their place, and readers of their fields that name file, record and field in every error."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from editbench.datasets.values import unwritten
from editbench.records import RecordError


class RowError(RecordError):
    """A raw record that cannot be used, with its place ("FILE:LINE") and the reason."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where, self.reason = where, reason


@dataclass(frozen=True, slots=True)
class Row:
    """A raw record. A field with the value null or NaN counts as absent: tables fill uneven records with them."""

    where: str  # "FILE:LINE" of the record's first line
    id: str  # the record's own id, or its index in the file
    fields: Mapping[str, object]
    path: str = ""  # prefix of field names in errors ("requested_rewrite." inside a nested object)
    read: set[str] = field(default_factory=set, compare=False)  # names of the fields that were asked for, with prefix

    def error(self, name: str, reason: str) -> RowError:
        """An error about field ``name``."""
        return RowError(self.where, f"record {self.id!r}, field {self.path + name!r}: {reason}")

    def has(self, name: str) -> bool:
        """Whether the field is present and not null."""
        self.read.add(_plain(f"{self.path}{name}"))
        value = self.fields.get(name)
        return value is not None and value == value  # NaN is not itself

    def filled(self, name: str) -> bool:
        """Whether the field holds anything: no empty text, list or object."""
        return self.has(name) and not _is_empty(self.fields[name])

    def value(self, name: str) -> object:
        """The value of a field that may be a list or an object; a text that holds one, as tables do, is that."""
        return self._unwritten(name, self._value(name))

    def text(self, name: str) -> str:
        """The field as non-empty text of valid Unicode; a number is written out."""
        return self._text(name, self._value(name))

    def several(self, name: str) -> list[str]:
        """The texts in a field: one, or a list of them, in lists of lists too; empty ones are left out.

        An absent field has none. So are answers with their other spellings, and the paraphrases of many files.
        """
        if not self.has(name):
            return []
        value = self.fields[name]
        if not (isinstance(value, str) and value.lstrip().startswith("{")):  # an object is no list: it stays a text
            value = self.value(name)
        return [self._text(at, item) for at, item in _leaves(name, value)]

    def right(self, name: str) -> list[str]:
        """The field as right answers, one at least: a text, or a list of which the first counts most."""
        found = self.several(name)
        if not found:
            value = self.value(name)
            raise self.error(name, "is an empty list; it must hold the right answer" if value == [] else "is empty")
        return found

    def texts(self, name: str) -> list[str]:
        """The field as a list of non-empty texts; the list may be empty."""
        return [self._text(f"{name}[{i}]", item) for i, item in enumerate(self._list(name))]

    def child(self, name: str) -> Row:
        """The field as a nested object."""
        return self._child(name, self.value(name))

    def children(self, name: str) -> list[Row]:
        """The field as a list of nested objects; an absent field is an empty list."""
        return [self._child(f"{name}[{i}]", item) for i, item in enumerate(self._list(name))] if self.has(name) else []

    def _value(self, name: str) -> object:
        if not self.has(name):
            if name in self.fields:
                raise self.error(name, "has no value (null, NaN or an empty cell); it must have one")
            raise self.error(name, f"is missing; the record has {', '.join(self.fields) or 'no fields'}")
        return self.fields[name]

    def _list(self, name: str) -> list[object]:
        value = self.value(name)
        if not isinstance(value, list):
            raise self.error(name, f"must be a list, found {type_name(value)}")
        return value

    def _unwritten(self, name: str, value: object) -> object:
        try:
            return unwritten(value)
        except ValueError as error:
            raise self.error(name, str(error)) from None

    def _text(self, name: str, value: object) -> str:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if value in (math.inf, -math.inf):
                raise self.error(name, "is an infinite number, which cannot be written out; give a text")
            return str(int(value) if value == int(value) else value)
        if not isinstance(value, str):
            raise self.error(name, f"must be text, found {type_name(value)}")
        if not value.strip():
            raise self.error(name, "is empty")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise self.error(name, f"holds half of a surrogate pair, which is no character: {value!r}") from None
        return value

    def _child(self, name: str, value: object) -> Row:
        if not isinstance(value, dict):
            raise self.error(name, f"must be an object with fields, found {type_name(value)}")
        return Row(self.where, self.id, value, f"{self.path}{name}.", self.read)

    def renamed(self, names: Mapping[str, str]) -> Row:
        """The row with fields by their names here: ``{"target": "target_new.str"}``, a dot reaching into objects."""
        fields = {name: value for name, value in self.fields.items() if name not in names.values()}
        for name, source in names.items():
            first, *parts = [source] if source in self.fields else source.split(".")
            value = self.fields.get(first)
            for part in parts:
                value = self._unwritten(first, value)
                value = value.get(part) if isinstance(value, dict) else None
            fields[name] = value
        return replace(self, fields=fields) if names else self

    def unread(self) -> list[str]:
        """Names of the fields, also of nested objects, that nothing has asked for and that hold something."""
        return list(dict.fromkeys(_unread("", self.fields, self.read)))


IDS = ("case_id", "id")
"""Fields with a record's own id."""


def _plain(name: str) -> str:
    """The field's name without places in lists: "locality[3].prompt" is "locality.prompt"."""
    return re.sub(r"\[\d+\]", "", name)


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, (str, list, dict)) and str(value).strip() in ("", "[]", "{}"))


def _leaves(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from _leaves(f"{name}[{i}]", item)
    elif value is not None and value == value and not (isinstance(value, str) and not value.strip()):
        yield name, value


def _unread(prefix: str, fields: Mapping[str, object], read: Collection[str]) -> Iterator[str]:
    for name, value in fields.items():
        full = f"{prefix}{name}"
        if full not in read:
            if not _is_empty(value) and full not in IDS:
                yield full
        elif any(other.startswith(f"{full}.") for other in read):
            value = unwritten(value)  # was read as such before
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    yield from _unread(f"{full}.", item, read)


def make_row(where: str, index: int, value: object) -> Row | RowError:
    """The row of parsed JSON, or an error if it is no record or its id no id; without an id the index stands for it."""
    if not isinstance(value, dict):
        return RowError(where, f"a record must be an object with fields, found {type_name(value)}")
    plain = Row(where, str(index), value)
    name = next((name for name in IDS if plain.has(name)), None)
    own = index if name is None else value[name]
    if isinstance(own, float) and own.is_integer():
        own = int(own)  # tables turn whole numbers with gaps between them into such
    if name and (isinstance(own, bool) or not isinstance(own, (int, str)) or not str(own).strip()):
        return plain.error(name, f"must be a whole number or text, found {own!r}")
    return Row(where, str(own).strip(), value)


def make_text_row(where: str, index: int, value: object) -> Row | RowError:
    """The row of a plain text, or of an object with the field "text"."""
    return make_row(where, index, {"text": value} if isinstance(value, str) else value)


def type_name(value: object) -> str:
    """Name of the value's JSON type."""
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return "an object" if isinstance(value, dict) else names.get(type(value), type(value).__name__)


MakeRow = Callable[[str, int, object], Row | RowError]
