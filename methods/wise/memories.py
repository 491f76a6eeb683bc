"""The side memories: shards and what merges leave of them, and the shard that takes the next edit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.memory_based.compression import CompressedDelta, dense, sparse
from editbench.memory_based.journal import Entry

from .config import MERGE, SPARSE, WISEConfig
from .merging import ties

if TYPE_CHECKING:
    from editbench.memory_based.projection import Projection


@dataclass(frozen=True)
class Memory:
    """A change of the weight, with what decides whether it answers.

    Attributes:
        name: Unlike any other, also of a later state of the same shard.
        delta: W' − W (d_out, d_in), as it is stored.
        minimum: The smallest score of its edits.
        edits: Their ids.
    """

    name: str
    delta: CompressedDelta
    minimum: float
    edits: tuple[str, ...]


@dataclass(frozen=True)
class Memories:
    """All memories after some edits; never changed in place.

    Attributes:
        stored: Full shards and merged memories, the oldest first.
        open: The shard that takes the next edit; None: a new one.
        count: Edits so far.
    """

    stored: tuple[Memory, ...] = ()
    open: Memory | None = None
    count: int = 0

    @property
    def all(self) -> tuple[Memory, ...]:
        """Those that may answer."""
        return self.stored if self.open is None else (*self.stored, self.open)

    def with_edit(self, edit: str, delta: Tensor, score: float, config: WISEConfig) -> Memories:
        """After one more edit, which left the open shard with W' − W = ``delta``."""
        number, old = self.count // config.save_every, self.open
        minimum = score if old is None else min(old.minimum, score)
        edits = (*(old.edits if old is not None else ()), edit)
        shard = Memory(f"shard {number} {len(edits)}", stored(delta, config), minimum, edits)
        count = self.count + 1
        if count % config.save_every:
            return Memories(self.stored, shard, count)
        after = Memories((*self.stored, shard), None, count)
        return after if count % config.merge_every else after._merged(config, delta.dtype)

    def _merged(self, config: WISEConfig, dtype: torch.dtype) -> Memories:
        size = config.merge_every // config.save_every
        old, new = self.stored[:-size], self.stored[-size:]
        weights = [1 / size] * size
        if config.variant == MERGE:
            if old:
                weights = [config.old_weight, *[(1 - config.old_weight) / size] * size]
            old, new = (), (*old, *new)
        delta = ties([one.delta.delta(dtype) for one in new], weights, config.density)
        minimum, edits = min(one.minimum for one in new), tuple(id for one in new for id in one.edits)
        merged = Memory(f"merged {self.count}", stored(delta, config), minimum, edits)
        return replace(self, stored=(*old, merged))

    def tensors(self) -> list[Tensor]:
        """All tensors."""
        return [part for one in self.all for part in one.delta.parts.values()]

    def entry(self, known: Sequence[Memory] = ()) -> Entry:
        """As tensors and JSON values: the memories that are not ``known``, and the names of all."""
        names = {one.name for one in known}
        new = [one for one in self.all if one.name not in names]
        tensors = {
            f"{i}.{part}": tensor.detach().cpu().contiguous()
            for i, one in enumerate(new)
            for part, tensor in one.delta.parts.items()
        }
        facts = [{"name": m.name, "kind": m.delta.kind, "minimum": m.minimum, "edits": m.edits} for m in new]
        order = [one.name for one in self.stored], self.open.name if self.open is not None else None
        return Entry(tensors, {"new": facts, "stored": order[0], "open": order[1], "count": self.count})

    def after(self, entry: Entry, device: torch.device) -> Memories:
        """The memories that :meth:`entry` was made of, where these are the ones it knew."""
        found = {one.name: one for one in self.all}
        for i, facts in enumerate(entry.metadata["new"]):
            own = {k.partition(".")[2]: t for k, t in entry.tensors.items() if k.partition(".")[0] == str(i)}
            delta = CompressedDelta(facts["kind"], own).to(device)
            found[facts["name"]] = Memory(facts["name"], delta, facts["minimum"], tuple(facts["edits"]))
        opened = entry.metadata["open"]
        stored = tuple(found[name] for name in entry.metadata["stored"])
        return Memories(stored, None if opened is None else found[opened], entry.metadata["count"])

    def state(self) -> dict[str, Tensor]:
        """All as tensors."""
        if not self.count:
            return {}
        entry = self.entry()
        text = torch.frombuffer(bytearray(json.dumps(entry.metadata).encode()), dtype=torch.uint8)
        return {**entry.tensors, "facts": text}

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor], at: Projection, device: torch.device) -> Memories:
        """The inverse of :meth:`state`; a ValueError if it is none, or of another projection."""
        if not state:
            return cls()
        try:
            facts: dict[str, Any] = json.loads(bytes(state["facts"].cpu().numpy()).decode())
            found = cls().after(Entry({k: t for k, t in state.items() if k != "facts"}, facts), device)
        except (KeyError, ValueError) as error:
            raise ValueError(f"this is not the state of side memories ({error})") from error
        shapes = {tuple(one.delta.delta(torch.float32).shape) for one in found.all}
        if shapes - {(at.d_out, at.d_in)}:
            raise ValueError(f"these memories are of {shapes}: of another projection")
        return found


def stored(delta: Tensor, config: WISEConfig) -> CompressedDelta:
    """A change as it is kept, exactly."""
    return sparse(delta) if config.memory_store == SPARSE else dense(delta, delta.dtype)
