"""Base classes of editors that find values at the subject's last token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

import torch
from torch import Tensor

from editbench.editor import Capabilities, Editor, EditResult, Footprint
from editbench.locate_then_edit.key_memory import KeyMemory
from editbench.locate_then_edit.multi_layer import (
    EditKeys,
    LayersConfig,
    MultiLayerConfig,
    key_solvers,
    multi_layer_templates,
    write_layers,
)
from editbench.locate_then_edit.prompts import edit_rows
from editbench.locate_then_edit.room import of_layers
from editbench.locate_then_edit.shifted_forward import AT_LAYER
from editbench.locate_then_edit.solver import FullSolver
from editbench.locate_then_edit.values import ValueConfig, optimise_values
from editbench.records import EditError, EditRequest

if TYPE_CHECKING:
    from editbench.ledger import Transaction
    from editbench.locate_then_edit.solver import KeySolver
    from editbench.model.shape import Shape
    from editbench.room import Room, Workload

V = TypeVar("V", bound=ValueConfig)
M = TypeVar("M", bound=LayersConfig)
C = TypeVar("C", bound=MultiLayerConfig)


class SubjectEditor(Editor[V]):
    """An editor whose values hold behind context templates, which :meth:`prepare` makes."""

    templates: list[str] | None = None

    def rows(self, request: EditRequest) -> list[tuple[int, ...]]:
        """The prompt within each context template, and the row of the KL term."""
        self.prepare([])
        assert self.templates is not None
        return [row.ids for row in edit_rows(self.lm, request, self.templates, train_eos=self.config.train_eos)]


class MultiLayerEditor(SubjectEditor[M]):
    """MEMIT and what changes one step of it: values on the current weights, written over several layers.

    A subclass gives :meth:`key_solvers`, and overrides the step that is its own.

    Attributes:
        remembers: Whether the keys of earlier edits join the systems that are solved, M = Σ KKᵀ.
    """

    capabilities = Capabilities(needs_subject=True, needs_covariance=True)
    remembers: ClassVar[bool] = False
    memory: KeyMemory | None = None

    def key_solvers(self) -> dict[int, KeySolver]:
        """The systems of all edited layers, made on the original weights."""
        raise NotImplementedError

    def solve(self, layer: int, keys: Tensor) -> Tensor:
        """The matrix (d_ff, n) whose transpose R is multiplied with, from K (d_ff, n)."""
        assert self.memory is not None
        return self.memory.key_solvers[layer].solve(keys)

    def values(self, batch: Sequence[EditRequest], result: EditResult) -> Tensor:
        """Z (d, n), on the current weights; adds the losses to the result."""
        assert self.templates is not None
        found = optimise_values(self.lm, batch, self.templates, self.config.layers[-1], AT_LAYER, self.config)
        result.losses.update({r.id: [terms[0] for terms in v.losses] for r, v in zip(batch, found, strict=True)})
        return torch.stack([value.target for value in found], dim=1)

    def write_targets(self, edits: EditKeys, targets: Tensor, transaction: Transaction) -> None:
        """Write Z (d, n) over the layers."""
        write_layers(edits, targets, self.solve, self.lm, transaction)

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """Make the templates and the systems from the unedited model."""
        if self.memory is None:
            with self.ledger.pristine():
                self.templates = multi_layer_templates(self.lm, self.config, self.resources)
                self.memory = KeyMemory(self.key_solvers())

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Optimise the values, write them, and remember the keys as they are then, if the method does."""
        self.prepare(batch)
        assert self.templates is not None and self.memory is not None
        try:
            self.memory.catch_up(len(self.ledger))
        except (ArithmeticError, ValueError) as error:
            raise EditError([r.id for r in batch], str(error)) from error
        edits = EditKeys.of(self.lm, batch, self.templates, self.config.layers)
        self.write_targets(edits, self.values(batch, result), transaction)
        if self.remembers:
            self.memory.add(edits.keys(), len(self.ledger))

    @classmethod
    def room(cls, config: M, shape: Shape, work: Workload) -> Room:
        """A matrix of each layer, the keys that are remembered, and the optimisation of a batch's values."""
        return of_layers(shape, work, config, at_once=work.batch, remembers=cls.remembers)

    def footprint(self) -> Footprint:
        """The systems, and the keys of earlier edits."""
        return Footprint.of(self.memory.tensors() if self.memory else [])

    def state(self) -> dict[str, Tensor]:
        """The keys of earlier edits."""
        return self.memory.state(len(self.ledger)) if self.memory else {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Replace the memory by a saved one; an empty state forgets all edits."""
        if state and self.remembers:
            self.prepare([])
            assert self.memory is not None
            self.memory.restore(state, len(self.ledger))
        elif state:
            super().restore(state)
        elif self.memory is not None:
            self.memory.clear()


class CovarianceEditor(MultiLayerEditor[C]):
    """Updates R [(λC + KKᵀ)⁻¹K]ᵀ, as MEMIT's; λC is factored once a layer."""

    def key_solvers(self) -> dict[int, KeySolver]:
        """λC of every edited layer."""
        return key_solvers(self.lm, self.config, self.resources, FullSolver)
