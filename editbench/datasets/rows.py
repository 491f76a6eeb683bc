"""One raw record, where it stands, and its fields read with their types checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench.records import RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping


class RowError(RecordError):
    """A raw record that cannot be used, and where it stands."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Row:
    """A raw record as the file has it.

    A field whose value is null counts as absent: tables fill the gaps of uneven records with it.

    Attributes:
        where: "FILE:LINE" of the record's first line.
        id: The record's own id, or its index in the file.
        fields: The raw fields.
        path: Prefix of the field names in errors ("requested_rewrite." inside a nested object).
    """

    where: str
    id: str
    fields: Mapping[str, object]
    path: str = ""

    def error(self, name: str, reason: str) -> RowError:
        """The error that says what is wrong with field ``name``."""
        return RowError(self.where, f"record {self.id!r}, field {self.path + name!r}: {reason}")

    def has(self, name: str) -> bool:
        """Whether the field is there, and not null."""
        return self.fields.get(name) is not None

    def text(self, name: str) -> str:
        """The field as non-empty text.

        Raises:
            RowError: If it is missing, no string, empty, or no valid Unicode.
        """
        return self._text(name, self._value(name))

    def label(self, name: str) -> str | None:
        """The field as a probe's answer: text, or None where it is empty (some published records have no answer).

        Raises:
            RowError: If it is missing, or no text.
        """
        value = self._value(name)
        return None if isinstance(value, str) and not value.strip() else self._text(name, value)

    def texts(self, name: str) -> list[str]:
        """The field as a list of non-empty texts; the list may be empty.

        Raises:
            RowError: If it is missing, no list, or an item is not what :meth:`text` takes.
        """
        return [self._text(f"{name}[{i}]", item) for i, item in enumerate(self._list(name))]

    def child(self, name: str) -> Row:
        """The field as a nested object.

        Raises:
            RowError: If it is missing or no object.
        """
        return self._child(name, self._value(name))

    def children(self, name: str) -> list[Row]:
        """The field as a list of nested objects; an absent field is an empty list.

        Raises:
            RowError: If it is no list, or an item is no object.
        """
        return [self._child(f"{name}[{i}]", item) for i, item in enumerate(self._list(name))] if self.has(name) else []

    def _value(self, name: str) -> object:
        if not self.has(name):
            raise self.error(name, f"is missing; the record has {', '.join(self.fields) or 'no fields'}")
        return self.fields[name]

    def _list(self, name: str) -> list[object]:
        value = self._value(name)
        if not isinstance(value, list):
            raise self.error(name, f"must be a list, found {type_name(value)}")
        return value

    def _text(self, name: str, value: object) -> str:
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
        return Row(self.where, self.id, value, f"{self.path}{name}.")


def make_row(where: str, index: int, value: object) -> Row | RowError:
    """Wrap a raw record; one that is no record at all comes back as the error, which the caller raises or lists.

    Args:
        where: "FILE:LINE" of the record.
        index: Position in the file, from 0: the id of a record that has none.
        value: What the file holds there.
    """
    if not isinstance(value, dict):
        return RowError(where, f"a record must be an object with fields, found {type_name(value)}")
    for name in ("case_id", "id"):
        own = value.get(name)
        if own is None:
            continue
        if isinstance(own, bool) or not isinstance(own, (int, str)) or not str(own).strip():
            return Row(where, str(index), value).error(name, f"must be a number or text, found {own!r}")
        return Row(where, str(own).strip(), value)
    return Row(where, str(index), value)


def type_name(value: object) -> str:
    """What JSON calls the value's type."""
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return "an object" if isinstance(value, dict) else names.get(type(value), type(value).__name__)
