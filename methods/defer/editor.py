"""Defer, after SERAC (Mitchell et al., ICML 2022) and the baseline of GRACE (Hartvigsen et al., NeurIPS 2023).

One side network answers for all edits. A gate decides at each prompt's end whether it does, or the model. Both are
trained on the edits as they come, and on no earlier one. Weights never change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.editor import EditResult, Footprint
from editbench.gradient_based.editor import BatchStateEditor
from editbench.locate_then_edit.prompts import target_ids
from editbench.memory_based.delta_answers import DeltaAnswers
from editbench.memory_based.editor import MemoryBasedEditor
from editbench.memory_based.irrelevant import MOST, IrrelevantPrompts
from editbench.memory_based.low_rank_block import as_delta
from editbench.memory_based.target_rows import TargetRows, prompt_inputs
from editbench.records import NOT_FINITE, EditError, EditRequest, Route
from editbench.room import Room

from .config import DeferConfig
from .networks import Networks, train

if TYPE_CHECKING:
    from editbench.ledger import Ledger, Transaction
    from editbench.memory_based.routing import Prompts
    from editbench.model.language_model import LanguageModel
    from editbench.model.shape import Shape
    from editbench.resources import Resources
    from editbench.room import Workload

SIDE = "side network"


class Defer(BatchStateEditor[DeferConfig], MemoryBasedEditor[DeferConfig]):
    """Trains the gate and the side network, whose state after each batch is in the ledger."""

    title = "Defer"
    paper = "after Mitchell et al., ICML 2022 (arXiv 2206.06520); Hartvigsen et al., NeurIPS 2023 (arXiv 2211.11031)"
    config_class = DeferConfig
    version = 2

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: DeferConfig, resources: Resources | None = None):
        """Start with a side network that adds nothing."""
        super().__init__(lm, ledger, config, resources)
        self.irrelevant = IrrelevantPrompts(lm, self.resources, config)
        like = lm.weight(self.projection.weight)
        self._initial = Networks.initial(self.projection, config.width, self.resources.seed, like)

    @property
    def networks(self) -> Networks:
        """Both networks after the batches in the ledger."""
        state = self.states.last(self.ledger)
        return Networks.of(state, self._initial) if state else self._initial

    @classmethod
    def room(cls, config: DeferConfig, shape: Shape, work: Workload) -> Room:
        """Two small networks, trained through the layers above; the irrelevant prompts of a batch run together."""
        size = sum(shape.projection(config.layer, config.projection)) * config.width * shape.wide
        passed = shape.training(work.batch * work.row, work.batch * work.answer, shape.layers - config.layer - 1)
        tokens = work.prompt if config.irrelevant else config.irrelevant_tokens  # equal prompts run once
        prompts = min(work.batch * config.irrelevant_prompts, len(config.irrelevant) or MOST)
        others = shape.working(prompts * tokens)
        return Room(kept=size, editing=max(4 * size + passed, others), disk=work.batches * size)

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Train both networks on from where the last batch left them."""
        encode, eos = self.lm.encode, self.config.train_eos
        data = TargetRows(
            self.lm, self.projection, [(encode(r.prompt).ids, target_ids(self.lm, r, eos)) for r in batch]
        )
        drawn = [ids for r in batch for ids in self.irrelevant.drawn(r.id, self.config.irrelevant_prompts)]
        others = prompt_inputs(self.lm, self.projection, drawn)
        networks, losses = train(self.networks, self.projection, data, others, self.config)
        if not all(bool(part.isfinite().all()) for part in networks.tensors.values()):
            raise EditError([r.id for r in batch], "the side network or its gate became NaN or infinite", NOT_FINITE)
        result.losses |= {r.id: of_it for r, of_it in zip(batch, losses.T.tolist(), strict=True)}
        opens = networks.opens(data.at_prompt).tolist()
        result.details["edits"] = {r.id: {"gate": gate} for r, gate in zip(batch, opens, strict=True)}
        result.details["gate_irrelevant"] = float(networks.opens(others).mean())
        kept = {name: part.cpu().contiguous() for name, part in networks.tensors.items()}
        self.states.keep(self.ledger, transaction, kept)

    def delete(self, id: str) -> None:
        """Refuse: both networks are of all edits."""
        raise ValueError(
            f"defer cannot delete edit {id!r} alone: one network answers for all; ledger.rollback takes the last ones "
            "back"
        )

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Refuse another method's."""
        if state:
            Networks.of(state, self._initial)

    def footprint(self) -> Footprint:
        """Both networks, whatever the number of edits."""
        return Footprint() if self.empty else Footprint.of(self.networks.tensors.values())

    @property
    def empty(self) -> bool:
        """Whether nothing was trained."""
        return not self.states.last(self.ledger)

    @torch.no_grad()
    def choose(self, prompts: Prompts) -> DeltaAnswers:
        """The side network where the gate opens at the prompt's last token."""
        networks = self.networks
        answered = (networks.opens(prompts.last) > self.config.threshold).tolist()
        return DeltaAnswers([SIDE if a else None for a in answered], [{SIDE: as_delta(networks.a, networks.b, 1.0)}])

    @torch.no_grad()
    def route(self, prompts: Sequence[str]) -> list[Route]:
        """All edits, the first by name, where the gate opens, and what the gate says."""
        if self.empty:
            return [Route(None, 0.0)] * len(prompts)
        first, *others = self.ledger.edited_ids or [SIDE]  # the networks of a state know no ids
        edits = Route(first, 0.0, tuple(others))
        opens = self.networks.opens(self.inputs_at_ends(prompts)).tolist()
        return [replace(edits, activation=g) if g > self.config.threshold else Route(None, g) for g in opens]
