"""Fine-tuning of a weight and its bias on a batch of edits: FT-L, FT-M, unbounded, with replay, with consolidation.

FT-L keeps each number within a bound (L∞) of its value before the batch: Zhu et al., "Modifying Memories
in Transformer Models", 2020, as the baseline in Meng et al., 2022. Loss: mean over the batch of the mean NLL of the
trained tokens, gold prefix fed in.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.editor import Editor, EditResult, Footprint
from editbench.gradient_based.training_rows import TrainingRows
from editbench.ledger import Dense, Ledger, Transaction
from editbench.model.architectures import is_transposed
from editbench.prompt_edits.facts import Fact, FactStore
from editbench.records import NOT_FINITE, EditError, EditRequest
from editbench.room import Room, of_changes

from .config import FineTuneConfig
from .consolidation import Consolidation

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.model.shape import Shape
    from editbench.resources import Resources
    from editbench.room import Workload

STEP, BETWEEN = 4, 3
"""Copies of the weight beside it: in a step of Adam, without the two that a change takes, and between steps."""


class FineTune(Editor[FineTuneConfig]):
    """Trains the second MLP projection of one layer, with its bias if it has one, a batch of edits at a time."""

    title = "FT-L"
    paper = "Zhu et al., 2020 (arXiv 2012.00363)"
    config_class = FineTuneConfig

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: FineTuneConfig, resources: Resources | None = None):
        """Start without edits to replay; a ValueError for a weight in float16, in which Adam gives NaN."""
        super().__init__(lm, ledger, config, resources)
        if self.lm.mlp_out(config.layer).weight.dtype == torch.float16:
            raise ValueError(
                "finetune trains the weight in its dtype, and in float16 Adam's epsilon of 1e-8 is zero: every edit "
                "would become NaN; give model.edited_dtype=float32, or model.dtype=bfloat16"
            )
        self._earlier = FactStore(type(self).__name__)
        ledger.before_rollback.append(self._earlier.cut)
        self._consolidation: Consolidation | None = None

    @property
    def _parameters(self) -> dict[str, Tensor]:
        """What is trained, by name, in the model's own layout."""
        name, module = self.lm.mlp_out_name(self.config.layer), self.lm.mlp_out(self.config.layer)
        found: dict[str, Tensor] = {name: module.weight}  # type: ignore[dict-item]
        if self.config.train_bias and (bias := getattr(module, "bias", None)) is not None:
            found[f"{name.removesuffix('weight')}bias"] = bias
        return found

    @classmethod
    def prepares(cls, config: FineTuneConfig) -> bool:
        """Only for consolidation."""
        return config.ewc > 0

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """Take the Fisher information of the unedited model, for consolidation."""
        if self.config.ewc and self._consolidation is None:
            parameters = list(self._parameters.values())
            with self.ledger.pristine(), _differentiable(parameters):
                texts, tokens = self.resources.texts, self.config.ewc_tokens
                self._consolidation = Consolidation(self.lm, parameters, texts, tokens)

    @classmethod
    def room(cls, config: FineTuneConfig, shape: Shape, work: Workload) -> Room:
        """The trained weight with its gradient and Adam's means, and a pass through the layers above."""
        layer, weight = config.layer, shape.weight(config.layer)
        rows, size = work.batch + config.replay, weight * shape.of_an_edited
        passed = shape.training(rows * work.longest, rows * work.answer, shape.layers - layer - 1)
        trained = Room(kept=2 * size * (config.ewc > 0), editing=max(STEP * size, BETWEEN * size + passed))
        return trained + of_changes([weight], shape, work, size, dense=True)

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Train in place, restore what was trained, and apply the differences."""
        self.prepare(())
        parameters, config = self._parameters, self.config
        original = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        rows = [*batch, *self._replayed(batch)]
        data = TrainingRows(self.lm, rows, first=config.layer, objective=config.objective, train_eos=config.train_eos)
        try:
            with torch.enable_grad(), _differentiable(parameters.values()):
                losses = self._train(parameters, original, data, [request.id for request in batch])
            deltas = {name: parameter.detach() - original[name] for name, parameter in parameters.items()}
        finally:
            for name, parameter in parameters.items():
                parameter.grad = None
                parameter.data.copy_(original[name])
        turned = is_transposed(self.lm.mlp_out(config.layer))
        for name, delta in deltas.items():
            transaction.apply(Dense(name, delta.T if turned and delta.ndim == 2 else delta))
        if config.replay:
            number = len(self.ledger)
            self._earlier.keep(transaction, [Fact(r.id, r.prompt, r.target, number) for r in batch])
        for request in batch:
            result.losses[request.id] = losses

    def _replayed(self, batch: Sequence[EditRequest]) -> list[EditRequest]:
        """Earlier edits to train again: those of other prompts, drawn by the run's seed and the number of batches."""
        new = {request.prompt for request in batch}
        known = [fact for fact in self._earlier.current(self.ledger) if fact.prompt not in new]
        draw = random.Random(f"{self.resources.seed}:{len(self.ledger)}")
        chosen = draw.sample(known, min(self.config.replay, len(known)))
        return [EditRequest(fact.id, fact.prompt, None, fact.target) for fact in chosen]

    def _train(
        self, parameters: Mapping[str, Tensor], original: Mapping[str, Tensor], data: TrainingRows, ids: Sequence[str]
    ) -> list[float]:
        config, losses, trained = self.config, list[float](), list(parameters.values())
        optimiser = torch.optim.Adam(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
        for _ in range(config.steps):
            optimiser.zero_grad(set_to_none=True)
            loss = data.loss()
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                reason = f"the training loss became {losses[-1]} at step {len(losses)}"
                raise EditError(ids, reason, NOT_FINITE)
            if losses[-1] < config.stop_loss:
                break
            if self._consolidation is not None:
                loss = loss + config.ewc * self._consolidation.penalty(trained)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if config.norm_bound is not None:
                with torch.no_grad():
                    for name, parameter in parameters.items():
                        parameter.clamp_(original[name] - config.norm_bound, original[name] + config.norm_bound)
        return losses

    def footprint(self) -> Footprint:
        """Edits to replay; Fisher information and the unedited weight, for consolidation."""
        kept = self._consolidation
        of = Footprint.of([] if kept is None else [*kept.fisher, *kept.start])
        return Footprint(of.device, of.host + self._earlier.text_bytes, of.disk)

    def state(self) -> dict[str, Tensor]:
        """The edits to replay."""
        return self._earlier.state(self.ledger)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Replace the edits to replay by those of a state."""
        self._earlier.restore(state, self.ledger)

    def state_beside_ledger(self) -> dict[str, Tensor]:
        """Nothing if the ledger is on disk: each batch's edits are there."""
        return {} if self.ledger.on_disk else self.state()

    def recall(self, rest: Mapping[str, Tensor]) -> None:
        """Replace the edits to replay by the ledger's, or by those of ``rest``."""
        self._earlier.recall(self.ledger, rest)


@contextmanager
def _differentiable(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Within the block, parameters have gradients."""
    some = list(parameters)
    for parameter in some:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in some:
            parameter.requires_grad_(False)
