"""NSE: MEMIT's update for long streams of edits.

Jiang et al., "Neuron-Level Sequential Editing for Large Language Models", 2024: values are optimised on the original
weights (value rewinding), edits that missed their value are written again in rounds, each layer changes only the
neurons that the edits use most, and a memory of the keys of earlier edits protects those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.editor import Capabilities, EditResult, Footprint
from editbench.locate_then_edit.editor import SubjectEditor
from editbench.locate_then_edit.key_memory import KeyMemory
from editbench.locate_then_edit.multi_layer import EditKeys, key_solvers, multi_layer_templates, write_layers
from editbench.locate_then_edit.room import of_layers
from editbench.locate_then_edit.shifted_forward import AT_LAYER
from editbench.locate_then_edit.solver import BLOCK, FullSolver, NeuronSubsetSolver
from editbench.locate_then_edit.value_cache import MOST_TOGETHER, CachedValue, ValueCache
from editbench.locate_then_edit.values import optimise_values
from editbench.model.devices import in_float64
from editbench.records import EditError, EditRequest

from .config import NSEConfig

if TYPE_CHECKING:
    from editbench.ledger import Transaction
    from editbench.model.shape import Shape
    from editbench.room import Room, Workload


class NSE(SubjectEditor[NSEConfig]):
    """Edits a batch at once and remembers its keys; C, context templates and values are those of the unedited model."""

    title = "NSE"
    paper = "Jiang et al., 2024 (arXiv 2410.04045)"
    config_class = NSEConfig
    capabilities = Capabilities(needs_subject=True, needs_covariance=True)

    values: ValueCache | None = None
    memory: KeyMemory | None = None

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """Optimise values on the original weights, where templates and covariance are made too.

        The same requests in the same order give the same bits, also where an earlier process was stopped. A request
        whose optimisation fails is tried again when it is edited. Without ``rewind`` no value can be found ahead.
        """
        wanted = [r for r in requests if self.refusal(r) is None] if self.config.rewind else []
        self._find(wanted, patient=True)

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Write the edits that are off their value, in rounds; then remember the keys."""
        c, ids = self.config, [r.id for r in batch]
        known, memory = self._find(batch if c.rewind else [])
        try:
            memory.catch_up(len(self.ledger))
        except (ArithmeticError, ValueError) as error:
            raise EditError(ids, str(error)) from error
        values = [known[r] for r in batch] if c.rewind else self._on_current_weights(batch, known.templates)
        targets = torch.stack([value.target for value in values], dim=1)  # (d, n)
        subjects = EditKeys.of(self.lm, batch, known.templates, c.layers)
        written: set[int] = set()
        rounds: list[dict[str, Any]] = []
        for _ in range(c.max_iterations - 1):
            distances = (targets - subjects.hidden()).norm(dim=0).tolist()
            kept = [i for i, distance in enumerate(distances) if c.alpha < distance < c.upper_bound]
            rounds.append({"distances": distances, "kept": [ids[i] for i in kept], "neurons": {}})
            if not kept:
                break
            solve = self._solver(rounds[-1]["neurons"])
            write_layers(subjects.select(kept), targets[:, kept], solve, self.lm, transaction)
            subjects.changed(c.layers[0])
            written.update(kept)
        remembered = {"all": range(len(batch)), "kept": sorted(written), "none": []}[c.memory]
        if remembered:
            keys = subjects.keys()
            memory.add({layer: key[:, list(remembered)] for layer, key in keys.items()}, len(self.ledger))
        result.losses.update({i: value.losses for i, value in zip(ids, values, strict=True)})
        result.details["rounds"] = rounds

    @classmethod
    def room(cls, config: NSEConfig, shape: Shape, work: Workload) -> Room:
        """As MEMIT's; values are found part by part, and a subset of the neurons needs the sum of all keys, too."""
        at_once = min(work.batch, MOST_TOGETHER) if config.rewind else work.batch
        remembers, subset = config.memory != "none", config.neuron_threshold < 1
        matrices = 1.0 + (subset and remembers and work.edits >= BLOCK)
        rounds = config.max_iterations - 1
        room = of_layers(shape, work, config, at_once=at_once, remembers=remembers, matrices=matrices, rounds=rounds)
        largest = max(map(shape.covariance, config.layers))
        block = round(2 * config.neuron_threshold**2 * largest) if subset else 0  # of that share of neurons, at most
        return replace(room, editing=max(room.editing, block), cache=room.cache + work.edits * shape.width * shape.wide)

    def footprint(self) -> Footprint:
        """The covariance and the keys of earlier edits."""
        return Footprint.of(self.memory.tensors() if self.memory else [])

    def state(self) -> dict[str, Tensor]:
        """The keys of earlier edits."""
        return self.memory.state(len(self.ledger)) if self.memory else {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Replace the memory by a saved one; an empty state forgets all edits."""
        if state:
            self._find([])[1].restore(state, len(self.ledger))
        elif self.memory is not None:
            self.memory.clear()

    def _find(self, requests: Sequence[EditRequest], *, patient: bool = False) -> tuple[ValueCache, KeyMemory]:
        """Values of ``requests`` and the memory, both made on the original weights."""
        c, lm, resources = self.config, self.lm, self.resources
        if self.values is None or self.memory is None:
            kind = FullSolver if c.neuron_threshold >= 1 else NeuronSubsetSolver
            with self.ledger.pristine():
                self.templates = multi_layer_templates(lm, c, resources)
                self.memory = KeyMemory(key_solvers(lm, c, resources, kind))
                self.values = ValueCache(lm, self.templates, c.layers[-1], AT_LAYER, c, resources)
        if self.values.lacks(requests):
            with self.ledger.pristine():
                self.values.find(requests, patient=patient)
        return self.values, self.memory

    def _on_current_weights(self, batch: Sequence[EditRequest], templates: Sequence[str]) -> list[CachedValue]:
        """Values as MEMIT finds them; they depend on the edits before and are not cached."""
        found = optimise_values(self.lm, batch, templates, self.config.layers[-1], AT_LAYER, self.config)
        return [CachedValue(value.target, [terms[0] for terms in value.losses]) for value in found]

    def _solver(self, counts: dict[str, int]) -> Callable[[int, Tensor], Tensor]:
        """Solver of a layer's update: keys (d_ff, n) → (d_ff, n), zero at unselected neurons; counts the selected."""
        assert self.memory is not None
        memory = self.memory

        def solve(layer: int, keys: Tensor) -> Tensor:
            index = select_neurons(keys, self.config.neuron_threshold, self.config.selection)
            counts[str(layer)] = len(keys) if index is None else len(index)
            return memory.key_solvers[layer].solve(keys, index)

        return solve


def select_neurons(keys: Tensor, threshold: float, selection: str) -> Tensor | None:
    """Indices (|S|,) of the neurons with the largest share of the edits' keys K (d_ff, n); None for all (p ≥ 1).

    A neuron's score is Σ |K| over the edits, in float64: in float32 a threshold p near 1 would lose some. By falling
    score "published" takes the longest prefix whose sum does not exceed p · total (possibly none), "smallest" the
    shortest whose sum reaches it.
    """
    if threshold >= 1:
        return None
    scores, order = in_float64(keys).abs().sum(1).sort(descending=True, stable=True)
    sums = scores.cumsum(0)
    bound = threshold * sums[-1]
    count = int((sums <= bound).sum()) if selection == "published" else int((sums < bound).sum()) + 1
    return order[:count]
