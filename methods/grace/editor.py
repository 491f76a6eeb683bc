"""GRACE: Aging with GRACE, lifelong model editing with discrete key-value adaptors (Hartvigsen et al., NeurIPS 2023).

A codebook beside one projection: where the projection's input at a prompt's last token lies within the radius of an
entry's key, the entry's value takes the place of the projection's output. Weights never change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.editor import EditResult, Footprint
from editbench.locate_then_edit.prompts import target_ids
from editbench.memory_based.editor import all_finite
from editbench.memory_based.journal import Entry, JournalledEditor
from editbench.memory_based.routing import Answer, Pass, Prompts
from editbench.memory_based.target_rows import TargetRows, wide
from editbench.progress import progress
from editbench.records import NOT_FINITE, EditError, EditRequest, Route
from editbench.room import OF_AN_ENTRY, Room, grown

from .codebook import Change, Codebook, Search
from .config import GRACEConfig
from .rules import ROUNDING, decide
from .training import initial_values, replaced_tokens, train_values

if TYPE_CHECKING:
    from editbench.ledger import Ledger, Transaction
    from editbench.model.language_model import LanguageModel
    from editbench.model.shape import Shape
    from editbench.resources import Resources
    from editbench.room import Workload


@dataclass(frozen=True)
class Values(Answer):
    """The values that answer: ``values`` (B, d_out), of which the rows of prompts without an edit mean nothing."""

    values: Tensor
    config: GRACEConfig

    def apply(self, x: Tensor, output: Tensor, run: Pass) -> Tensor:
        """``output`` with values in the place of some tokens' outputs."""
        columns = torch.arange(run.start, run.start + output.shape[1], device=output.device)
        ends = torch.tensor(run.columns, device=output.device)[:, None]  # (B, 1)
        fires = torch.tensor([name is not None for name in self.of], device=output.device)[:, None]
        where = fires & replaced_tokens(columns[None], ends, self.config.replacement, self.config.rules)  # (B, T)
        where, values = (t.repeat_interleave(run.copies, dim=0) for t in (where, self.values))
        return torch.where(where[..., None], values.to(output)[:, None], output)


class GRACE(JournalledEditor[GRACEConfig]):
    """Trains a value for each edit, or one that edits with the same answer and near keys share.

    Attributes:
        initial_values: Given starts of values by edit id, (d_out,) each; others as the config says.
    """

    title = "GRACE"
    paper = "Hartvigsen et al., NeurIPS 2023 (arXiv 2211.11031)"
    config_class = GRACEConfig
    version = 4

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: GRACEConfig, resources: Resources | None = None):
        """Start with an empty codebook."""
        super().__init__(lm, ledger, config, resources)
        weight = lm.weight(self.projection.weight)
        self.codebook = Codebook(self.projection, torch.empty(0, dtype=wide(weight.dtype), device=weight.device))
        self.initial_values: Mapping[str, Tensor] = {}
        self.rounding = ROUNDING * torch.finfo(lm.model.dtype).eps

    @classmethod
    def room(cls, config: GRACEConfig, shape: Shape, work: Workload) -> Room:
        """Key and value of every edit, and a pass of the values that are trained together through the layers above."""
        into, out = shape.projection(config.layer, config.projection)
        at_once, entry = min(work.batch, config.edits_at_once), (into + out) * shape.wide
        passed = shape.training(at_once * work.row, at_once * work.answer, shape.layers - config.layer - 1)
        return Room(kept=grown(work.edits) * entry, editing=passed, disk=work.edits * (entry + OF_AN_ENTRY))

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Decide on all keys in order, then train the values, those of different entries together."""
        rows = [self._row(request) for request in batch]
        data, keys = self._keys(batch, rows)
        with self.codebook.trial() as make:
            changes, search = [], Search(self.codebook, keys)
            for i, (request, key, (prompt, label)) in enumerate(zip(batch, keys, rows, strict=True)):
                answer = len(prompt), tuple(label)
                near = search.nearest(i)
                change = decide(
                    self.codebook, request, key, *answer, self.config, near, self.inputs_at_ends, self.rounding
                )
                make(change)
                search.note(change)
                changes.append(change)
            changes = self._train(changes, rows, data, result)
        for change in changes:
            size = sum(t.nbytes for t in (change.key, change.value) if t is not None) if change.key is not None else 0
            facts = {"event": change.event, "entry": change.entry, "radius": change.radius, "bytes": size}
            result.details.setdefault("edits", {})[change.edit] = facts
        self.keep(transaction, [change.journal_entry() for change in changes])

    def _row(self, request: EditRequest) -> tuple[list[int], list[int]]:
        return self.lm.encode(request.prompt).ids, target_ids(self.lm, request, self.config.train_eos)

    def _keys(
        self, batch: Sequence[EditRequest], rows: Sequence[tuple[list[int], list[int]]]
    ) -> tuple[dict[tuple[int, ...], TargetRows], Tensor]:
        """Rows that are trained together, by their places, and the keys (B, d_in)."""
        size, data = self.config.edits_at_once, {}
        for start in range(0, len(batch), size):
            some = tuple(range(start, min(start + size, len(batch))))
            data[some] = TargetRows(self.lm, self.projection, [rows[i] for i in some])
        keys = torch.cat([some.at_prompt for some in data.values()]).to(self.codebook.keys)
        if bad := [r.id for r, sound in zip(batch, all_finite(keys), strict=True) if not sound]:
            raise EditError(bad, "the key is NaN or infinite", NOT_FINITE)
        return data, keys

    def _train(
        self,
        changes: list[Change],
        rows: Sequence[tuple[list[int], list[int]]],
        data: Mapping[tuple[int, ...], TargetRows],
        result: EditResult,
    ) -> list[Change]:
        """The changes with their values. Edits that share an entry are trained one after the other."""
        values: dict[int, Tensor] = {}  # by entry, where there is one already
        trained = list(changes)
        with progress("values", len(changes)) as advance:
            for some in _rounds(changes, self.config.edits_at_once):
                part = data.get(some) or TargetRows(self.lm, self.projection, [rows[i] for i in some])
                start = self._start([changes[i] for i in some], part, values)
                found, losses = train_values(part, start, self.config)
                sound = all_finite(found)
                if bad := [changes[i].edit for i, one in zip(some, sound, strict=True) if not one]:
                    raise EditError(bad, "the value became NaN or infinite", NOT_FINITE)
                for i, value, of_it in zip(some, found, losses, strict=True):
                    values[changes[i].entry] = value
                    trained[i] = replace(changes[i], value=value)
                    result.losses[changes[i].edit] = of_it
                advance(len(some))
        return trained

    def _start(self, changes: list[Change], data: TargetRows, values: Mapping[int, Tensor]) -> Tensor:
        """(B, d_out) where the values start: an entry's own, or a new one."""
        new = initial_values(data, [change.edit for change in changes], self.resources.seed, self.config)
        for i, change in enumerate(changes):
            if change.event in ("reuse", "expand") and (change.entry in values or change.entry in self.codebook):
                known = values.get(change.entry)
                new[i] = self.codebook.values[self.codebook.place(change.entry)] if known is None else known
            elif change.edit in self.initial_values:
                new[i] = self.initial_values[change.edit].to(new)
        return new

    # -- the memory ---------------------------------------------------------------------------------------------------

    @property
    def held(self) -> set[str]:
        """Ids of the edits that the entries serve."""
        return {id for item in self.codebook.items for id in item.edits}

    def take(self, entry: Entry) -> None:
        """Make one edit's change."""
        self.codebook.take(Change.of(entry))

    def drop(self, id: str) -> None:
        """Take an edit from its entry, which is deleted if it serves no other; radii stay."""
        self.codebook.drop(id)

    def clear(self) -> None:
        """Empty the codebook."""
        self.codebook.restore({})

    def state(self) -> dict[str, Tensor]:
        """The codebook."""
        return self.codebook.state()

    def fill(self, state: Mapping[str, Tensor]) -> None:
        """Replace the codebook by that of ``state``."""
        self.codebook.restore(state)

    def footprint(self) -> Footprint:
        """Keys and values."""
        return Footprint.of(self.codebook.tensors())

    # -- answering ----------------------------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Whether the codebook is."""
        return not len(self.codebook)

    def choose(self, prompts: Prompts) -> Values:
        """The values of the nearest entries, where they are within their radius."""
        found = self.codebook.nearest(prompts.last)
        values = self.codebook.values[torch.tensor([place for place, _ in found], device=self.codebook.values.device)]
        return Values([self._route(*one).id for one in found], values, self.config)

    def route(self, prompts: Sequence[str]) -> list[Route]:
        """The edits whose entry answers each prompt, and by how much the nearest radius exceeds the distance."""
        if self.empty:
            return [Route(None, 0.0)] * len(prompts)
        return [self._route(*one) for one in self.codebook.nearest(self.inputs_at_ends(prompts))]

    def _route(self, place: int, distance: float) -> Route:
        inside = self.codebook.radii[place] - distance
        edits = tuple(self.codebook.items[place].edits)
        return Route(edits[0], inside, edits[1:]) if inside >= 0 else Route(None, inside)


def _rounds(changes: Sequence[Change], size: int) -> list[tuple[int, ...]]:
    """Places of the changes that are trained together: at most ``size``, each entry once, in the order of its edits."""
    seen: Counter[int] = Counter()
    rounds: dict[int, list[int]] = {}
    for i, change in enumerate(changes):
        rounds.setdefault(seen[change.entry], []).append(i)
        seen[change.entry] += 1
    return [tuple(some[start : start + size]) for some in rounds.values() for start in range(0, len(some), size)]
