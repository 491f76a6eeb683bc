"""UltraEdit: the update of a batch from one forward and one backward pass.

Gu et al., "UltraEdit: Training-, Subject-, and Memory-Free Lifelong Editing in Language Models", 2025. Shapes: N
trained tokens of a batch, inputs H (N, d_in) of an edited module, gradients G (N, d_out) of the loss at its output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from editbench.editor import EditResult, Footprint
from editbench.gradient_based.editor import BatchStateEditor
from editbench.gradient_based.module_gradients import (
    EDITWISE,
    LOSSES,
    PUBLISHED,
    Seen,
    joined,
    linear_modules,
    passes,
    shape_of,
)
from editbench.gradient_based.normalisation import (
    Normaliser,
    Statistics,
    add_rows,
    from_tensors,
    normalised,
    to_tensors,
)
from editbench.gradient_based.room import named_layers, of_passes
from editbench.gradient_based.solve import norm, ridge_change
from editbench.records import EditRequest

from .config import SHAPE, UltraEditConfig

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.ledger import Dense, Ledger, LowRank, Transaction
    from editbench.model.language_model import LanguageModel
    from editbench.model.shape import Shape
    from editbench.resources import Resources
    from editbench.room import Room, Workload


class UltraEdit(BatchStateEditor[UltraEditConfig]):
    """Normalises inputs and gradients by all edits so far, and solves for the update of each module."""

    title = "UltraEdit"
    paper = "Gu et al., 2025 (arXiv 2505.14679)"
    config_class = UltraEditConfig
    version = 2

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: UltraEditConfig, resources: Resources | None = None):
        """Find the modules; a ValueError for a layer or module that the model does not have."""
        super().__init__(lm, ledger, config, resources)
        self.modules = linear_modules(lm, [name.removesuffix(".weight") for name in self.edited_weights()])
        self._warm: Statistics | None = None  # before the first edit

    def layers(self) -> list[int]:
        """Those of the config, where it names no modules."""
        return [] if self.config.modules else self.config.layers

    def edited_weights(self) -> list[str]:
        """Those of the config's modules, or of its layers."""
        return [f"{name}.weight" for name in self.config.modules or ()] or super().edited_weights()

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """Take the statistics of the training records, on the unedited model."""
        self._at_start()

    @classmethod
    def room(cls, config: UltraEditConfig, shape: Shape, work: Workload) -> Room:
        """A pass from the first edited module on; inputs and gradients of a batch; a change as thin as its tokens."""
        layers = named_layers(config.modules) or config.layers
        sizes = shape.linear(config.modules) if config.modules else [shape.projection(at) for at in layers]
        return of_passes(shape, work, config, sizes, min(layers, default=0), tokens=work.answer)

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Add the batch to the statistics, then update all modules from the same backward passes."""
        statistics, parts = self._statistics(), []
        for losses, seen in self._passes(batch):
            result.losses.update(losses)
            self._add(statistics, seen)
            parts.append(seen)
        norms = {}
        for name, (inputs, gradients) in joined(parts).items():
            change = self._update(name, inputs, gradients, statistics[self._key(name)])
            transaction.apply(change)
            norms[name] = norm(change)
        self.states.keep(self.ledger, transaction, to_tensors(statistics))
        result.details["update_norms"] = norms

    def _passes(self, batch: Sequence[EditRequest]) -> Iterator[tuple[dict[str, list[float]], Seen]]:
        c = self.config
        return passes(
            self.lm,
            self.modules,
            batch,
            at_once=c.edits_at_once,
            train_eos=c.train_eos,
            loss=LOSSES[c.loss or EDITWISE],
        )

    def _key(self, name: str) -> str:
        """Name of the statistics to which a module belongs."""
        return shape_of(self.lm, name) if self.config.statistics == SHAPE else name

    def _add(self, statistics: Statistics, seen: Seen) -> None:
        for name, pair in seen.items():
            add_rows(statistics, self._key(name), pair, self.config.merge == PUBLISHED)

    def _update(self, name: str, inputs: Tensor, gradients: Tensor, normaliser: Normaliser) -> LowRank | Dense:
        """The change of a module's weight: (HᵀH + λ)⁻¹ HᵀV, transposed, with V = -lr ‖ĥ‖² ĝ."""
        x = normalised(normaliser, (inputs, gradients))
        scaled, direction = x[:, : inputs.shape[1]], x[:, inputs.shape[1] :]
        values = -self.config.learning_rate * scaled.square().sum(1, keepdim=True) * direction  # V (N, d_out)
        return ridge_change(f"{name}.weight", inputs, values, self.config.ridge)

    def _statistics(self) -> Statistics:
        """Statistics of all edits in the ledger, which may be added to."""
        state = self.states.last(self.ledger)
        return (
            from_tensors(state, self._like, self.title) if state else {k: s.copy() for k, s in self._at_start().items()}
        )

    def _at_start(self) -> Statistics:
        if self._warm is None:
            self._warm = {}
            wanted = self.config.warm_up
            records = self.resources.training_records[:wanted] if wanted else ()
            if len(records) < wanted:
                raise ValueError(f"method.warm_up is {wanted}, but the split train has {len(records)} records")
            with self.ledger.pristine():
                for _, seen in self._passes([record.request for record in records]):
                    self._add(self._warm, seen)
        return self._warm

    @property
    def _like(self) -> Tensor:
        weight = self.lm.weight(f"{next(iter(self.modules))}.weight")
        return weight.new_empty(0, dtype=torch.promote_types(weight.dtype, torch.float32))

    def footprint(self) -> Footprint:
        """Mean, spread and count, whatever the number of edits."""
        return Footprint.of([t for one in self._statistics().values() for t in one.tensors().values()])

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Refuse another method's."""
        from_tensors(state, self._like, self.title)
