"""The codebook: keys with values, radii, answers and the edits that they serve, in the order of their adding."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from dataclasses import fields as dataclass_fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.memory_based.growing_rows import GrowingRows
from editbench.memory_based.journal import Entry as JournalEntry
from editbench.memory_based.nearest_rows import nearest_rows

if TYPE_CHECKING:
    from editbench.memory_based.projection import Projection


@dataclass
class Item:
    """What an entry of the codebook has besides key, value and radius.

    Attributes:
        label: Token ids of the answer.
        label_mean: What the published code compares instead (:func:`~.rules.label_mean`).
        edits: Ids and prompts of the edits that it serves, the oldest first.
        at: The prompt whose key is the entry's; empty where it is known of none.
    """

    label: tuple[int, ...]
    label_mean: float
    edits: dict[str, str] = field(default_factory=dict)
    at: str = ""


@dataclass(frozen=True)
class Left:
    """The prompt to which an entry moves when that at its key gets another answer, and its key (d_in)."""

    prompt: str
    key: Tensor


@dataclass(frozen=True)
class Change:
    """What one edit does to the codebook.

    Attributes:
        event: "add", "reuse", "expand", "split" or "replace".
        entry: Number of the entry that answers the edit: the next one for "add" and "split".
        radius: Of that entry from now on.
        label: Token ids of the edit's answer, with their ``label_mean``.
        shrunk: Number of the entry that "split" shrinks, and its new radius.
        left: Where that entry stands from now on; None where it stays.
        key: (d_in) of the entry from now on; None where it stays.
        value: (d_out) once it is trained.
    """

    edit: str
    prompt: str
    event: str
    entry: int
    radius: float
    label: tuple[int, ...]
    label_mean: float
    shrunk: tuple[int, float] | None = None
    key: Tensor | None = None
    value: Tensor | None = None
    left: Left | None = None

    def journal_entry(self) -> JournalEntry:
        """For the journal."""
        fields = {one.name: getattr(self, one.name) for one in dataclass_fields(self)}
        left = fields.pop("left")
        tensors = {name: part for name in ("key", "value") if (part := fields.pop(name)) is not None}
        if left is not None:
            tensors["left"], fields["left_prompt"] = left.key, left.prompt
        return JournalEntry({name: part.detach().cpu().contiguous() for name, part in tensors.items()}, fields)

    @classmethod
    def of(cls, entry: JournalEntry) -> Change:
        """The inverse of :meth:`journal_entry`."""
        fields = dict(entry.metadata)
        shrunk = fields.pop("shrunk")
        fields["label"] = tuple(fields["label"])
        key, value, at = (entry.tensors.get(name) for name in ("key", "value", "left"))
        left = None if at is None else Left(fields.pop("left_prompt", ""), at)
        return cls(**fields, shrunk=None if shrunk is None else (shrunk[0], shrunk[1]), key=key, value=value, left=left)


class Codebook:
    """Entries by place. An entry's number never changes; places move up when one is deleted."""

    def __init__(self, at: Projection, like: Tensor) -> None:
        """Start empty; ``like`` has the dtype and the device."""
        self._empty = like.new_empty((0, at.d_in)), like.new_empty((0, at.d_out))
        self._keys, self._values = GrowingRows(self._empty[0]), GrowingRows(self._empty[1])
        self.radii: list[float] = []
        self.numbers: list[int] = []
        self.items: list[Item] = []
        self.next = 0
        self.deletions = 0  # so far: whoever keeps places must look again after one
        self._entries_of: dict[str, list[int]] = {}  # numbers by edit; the edit may have left some since

    def __len__(self) -> int:
        return len(self.items)

    def __contains__(self, number: int) -> bool:
        """Whether an entry of this number is here."""
        place = self.place(number)
        return place < len(self) and self.numbers[place] == number

    @property
    def keys(self) -> Tensor:
        """(N, d_in) view, until the next change."""
        return self._keys.filled

    @property
    def values(self) -> Tensor:
        """(N, d_out) view, until the next change."""
        return self._values.filled

    def place(self, number: int) -> int:
        """Place of an entry that is here."""
        return bisect_left(self.numbers, number)

    def distances(self, x: Tensor) -> Tensor:
        """(B, N) Euclidean distances of queries (B, d_in) to the keys, by differences: exact near zero."""
        return torch.cdist(x.to(self.keys), self.keys, compute_mode="donot_use_mm_for_euclid_dist")

    def nearest(self, x: Tensor) -> list[tuple[int, float]]:
        """Place and distance of the nearest key to each query (B, d_in)."""
        return nearest_rows(x, self.keys)

    def apply(self, change: Change) -> list[Callable[[], object]]:
        """Make a change; the functions that are returned take it back, the last one first."""
        undo: list[Callable[[], object]] = []
        if change.entry == self.next:
            assert change.key is not None
            self._keys.append(change.key.to(self.keys))
            self._values.append(change.key.new_zeros(self.values.shape[1]).to(self.values))
            self.radii.append(change.radius)
            self.numbers.append(change.entry)
            self.items.append(Item(change.label, change.label_mean))
            self.next += 1
            undo.append(self._delete_last)
        place = self.place(change.entry)
        undo.append(self._set_item(place, change))
        undo.append(self._set_radius(place, change.radius))
        if change.shrunk is not None:
            undo.append(self._set_radius(self.place(change.shrunk[0]), change.shrunk[1]))
            undo.append(self._leave(self.place(change.shrunk[0]), change.prompt, change.left))
            if change.left is not None:
                undo.append(_set_row(self.keys, self.place(change.shrunk[0]), change.left.key))
        if change.key is not None:
            undo.append(_set_row(self.keys, place, change.key))
        if change.value is not None:
            undo.append(_set_row(self.values, place, change.value))
        return undo

    def take(self, change: Change) -> list[Callable[[], object]]:
        """Make a change, and take its edit from its entries of before; undone as for :meth:`apply`."""
        return [*self.apply(change), *self.drop(change.edit, but=change.entry)]

    @contextmanager
    def trial(self) -> Iterator[Callable[[Change], None]]:
        """Within the block, changes taken by the function are in the codebook; then they are taken back."""
        undo: list[Callable[[], object]] = []
        try:
            yield lambda change: undo.extend(self.take(change))
        finally:
            for one in reversed(undo):
                one()

    def drop(self, edit: str, but: int | None = None) -> list[Callable[[], object]]:
        """Take an edit from the entries that serve it, ``but`` one; an entry that serves none is deleted."""
        numbers = self._entries_of.pop(edit, None)
        if numbers is None:
            return []
        undo: list[Callable[[], object]] = [lambda: self._entries_of.__setitem__(edit, numbers)]
        for number in numbers:
            if number == but:
                self._entries_of[edit] = [number]
                continue
            if number in self and edit in self.items[self.place(number)].edits:
                undo.append(self._leave_edit(self.place(number), edit))
        return undo

    def _set_item(self, place: int, change: Change) -> Callable[[], object]:
        before = self.items[place]
        kept = {} if change.event == "replace" else {id: p for id, p in before.edits.items() if id != change.edit}
        label = (change.label, change.label_mean) if change.event == "replace" else (before.label, before.label_mean)
        at = before.at if change.key is None else "" if change.event == "expand" else change.prompt
        self.items[place] = Item(*label, {**kept, change.edit: change.prompt}, at)
        self._entries_of.setdefault(change.edit, []).append(change.entry)

        def undo() -> None:
            self.items[place] = before
            self._entries_of[change.edit].pop()

        return undo

    def _leave(self, place: int, prompt: str, left: Left | None) -> Callable[[], object]:
        """Take a prompt that is split off out of an entry that serves others, too."""
        before = self.items[place]
        others = {id: p for id, p in before.edits.items() if p != prompt}
        at = before.at if left is None else left.prompt
        self.items[place] = replace(before, edits=others or before.edits, at=at)
        return lambda: self.items.__setitem__(place, before)

    def _leave_edit(self, place: int, edit: str) -> Callable[[], object]:
        before = self.items[place]
        if others := {id: prompt for id, prompt in before.edits.items() if id != edit}:
            self.items[place] = replace(before, edits=others)
            return lambda: self.items.__setitem__(place, before)
        key, value = self.keys[place].clone(), self.values[place].clone()
        radius, number = self.radii[place], self.numbers[place]
        self._delete(place)

        def undo() -> None:
            self._keys.insert(place, key)
            self._values.insert(place, value)
            self.radii.insert(place, radius)
            self.numbers.insert(place, number)
            self.items.insert(place, before)

        return undo

    def _set_radius(self, place: int, radius: float) -> Callable[[], object]:
        before, self.radii[place] = self.radii[place], radius
        return lambda: self.radii.__setitem__(place, before)

    def _delete_last(self) -> None:
        self._delete(len(self) - 1)
        self.next -= 1

    def _delete(self, place: int) -> None:
        self._keys.delete(place)
        self._values.delete(place)
        del self.radii[place], self.numbers[place], self.items[place]
        self.deletions += 1

    def tensors(self) -> Sequence[Tensor]:
        """Keys and values."""
        return self.keys, self.values

    def state(self) -> dict[str, Tensor]:
        """The whole codebook as tensors."""
        if not self.next:
            return {}
        facts = {
            "numbers": self.numbers,
            "next": self.next,
            "radii": self.radii,
            "items": [asdict(item) for item in self.items],
        }
        text = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
        return {"keys": self.keys.cpu().clone(), "values": self.values.cpu().clone(), "facts": text}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Replace the codebook; a ValueError if the state is no codebook's, or one of another shape."""
        facts = _facts(state)
        keys, values = (state.get(name, empty) for name, empty in zip(("keys", "values"), self._empty, strict=True))
        if (keys.shape[1], values.shape[1]) != (self.keys.shape[1], self.values.shape[1]):
            shapes = tuple(keys.shape), tuple(values.shape)
            raise ValueError(f"this codebook has keys and values of {shapes}: it is of another projection")
        self._keys, self._values = GrowingRows(self._empty[0]), GrowingRows(self._empty[1])
        for key, value in zip(keys, values, strict=True):
            self._keys.append(key.to(self._empty[0]))
            self._values.append(value.to(self._empty[1]))
        self.numbers, self.radii, self.next = facts["numbers"], facts["radii"], facts["next"]
        self.items = [
            Item(tuple(i["label"]), i["label_mean"], dict(i["edits"]), i.get("at", "")) for i in facts["items"]
        ]
        served = zip(self.numbers, self.items, strict=True)
        self._entries_of = {edit: [number] for number, item in served for edit in item.edits}


class Search:
    """The nearest entry to each of a batch's keys while the batch changes the codebook.

    The entries of before are searched once for all keys: to read them for each would be what an edit costs. Where an
    edit that is made again leaves an entry that goes with it, each key is searched by itself.
    """

    def __init__(self, codebook: Codebook, keys: Tensor) -> None:
        """``keys`` is (B, d_in)."""
        self._codebook, self._keys, self._size = codebook, keys, len(codebook)
        self._before = codebook.nearest(keys) if self._size else []
        self._moved, self._deletions = set[int](), codebook.deletions

    def note(self, change: Change) -> None:
        """A change was made."""
        numbers = [change.entry] if change.key is not None else []
        if change.shrunk is not None and change.left is not None:
            numbers.append(change.shrunk[0])
        self._moved.update(place for place in map(self._codebook.place, numbers) if place < self._size)

    def nearest(self, i: int) -> tuple[int, float] | None:
        """Place and distance for key ``i``, as :meth:`Codebook.nearest`; None of an empty codebook."""
        codebook, key = self._codebook, self._keys[i : i + 1]
        if not self._before or codebook.deletions != self._deletions or self._before[i][0] in self._moved:
            return codebook.nearest(key)[0] if len(codebook) else None
        found = [self._before[i]]
        if changed := [*sorted(self._moved), *range(self._size, len(codebook))]:
            ((at, distance),) = nearest_rows(key, codebook.keys[changed])
            found.append((changed[at], distance))
        return min(found, key=lambda one: (one[1], one[0]))


def _facts(state: Mapping[str, Tensor]) -> dict[str, Any]:
    if not state:
        return {"numbers": [], "radii": [], "next": 0, "items": []}
    try:
        facts: dict[str, Any] = json.loads(bytes(state["facts"].cpu().numpy()).decode())
    except (KeyError, ValueError) as error:
        raise ValueError(f"this is not the state of a codebook ({error})") from error
    return facts


def _set_row(rows: Tensor, place: int, row: Tensor) -> Callable[[], object]:
    before = rows[place].clone()
    rows[place] = row.to(rows)
    return lambda: rows[place].copy_(before)
