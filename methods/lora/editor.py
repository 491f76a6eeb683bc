"""LoRA: one adapter of low rank is trained on the edits, batch after batch, and merged into the weights.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. The adapter stands on the unedited weights
W₀: after a batch a weight is W₀ + s·BA, with B (out, r) and A (r, in) trained further, and s = alpha / rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.editor import EditResult, Footprint
from editbench.gradient_based.editor import BatchStateEditor
from editbench.gradient_based.training_rows import TrainingRows
from editbench.ledger import LowRank
from editbench.model.architectures import is_transposed
from editbench.model.devices import seeded
from editbench.records import NOT_FINITE, EditError, EditRequest
from editbench.room import Room, of_changes

from .config import LoRAConfig

if TYPE_CHECKING:
    from editbench.ledger import Ledger, Transaction
    from editbench.model.language_model import LanguageModel
    from editbench.model.shape import Shape
    from editbench.resources import Resources
    from editbench.room import Workload

ADAPTER = "default"  # peft's own name for it
A, B = "A", "B"


class LoRA(BatchStateEditor[LoRAConfig]):
    """Trains the adapter on the unedited weights, and hands the ledger what it has changed."""

    title = "LoRA"
    paper = "Hu et al., ICLR 2022 (arXiv 2106.09685)"
    config_class = LoRAConfig

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: LoRAConfig, resources: Resources | None = None):
        """A ValueError if peft is missing, or if a module or layer does not exist or cannot be changed."""
        super().__init__(lm, ledger, config, resources)
        for layer in config.layers:
            lm.mlp_out(layer)
        with self._adapted() as adapters:
            names = list(adapters)
        for name in names:
            lm.weight(f"{name}.weight")

    def edited_weights(self) -> list[str]:
        """The weights that the adapter stands on."""
        with self._adapted() as adapters:
            return [f"{name}.weight" for name in adapters]

    @classmethod
    def room(cls, config: LoRAConfig, shape: Shape, work: Workload) -> Room:
        """The adapter, its gradient and Adam's means, what its dropout keeps of each token, and all adapted weights."""
        sizes, wide = shape.linear(config.modules or _default_modules(shape), config.layers), shape.wide
        adapter = sum(config.rank * (into + out) for into, out in sizes) * wide
        widened = wide if shape.of_a_number < wide else 0  # inputs in float32; and dropped ones with their mask
        inputs = sum(into for into, _ in sizes) * (widened + wide + 1)
        tokens = work.batch * work.longest
        passed = shape.training(tokens, work.batch * work.answer, shape.layers) + round(tokens * inputs)
        written = of_changes([into * out for into, out in sizes], shape, work, 3 * adapter)
        return written + Room(kept=adapter, editing=5 * adapter + passed)

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Train the adapter further, and apply the difference between its products after and before."""
        before, ids = self.states.last(self.ledger), [request.id for request in batch]
        with self.ledger.pristine(), self._adapted() as adapters:
            for name, (down, up) in adapters.items() if before else ():
                down.data.copy_(before[f"{name}/{A}"])
                up.data.copy_(before[f"{name}/{B}"])
            rows = TrainingRows(self.lm, batch, train_eos=self.config.train_eos)
            losses = self._train(rows, [factor for pair in adapters.values() for factor in pair])
            after = {
                f"{name}/{side}": factor.detach().clone()
                for name, pair in adapters.items()
                for side, factor in zip((A, B), pair, strict=True)
            }
        if not all(bool(tensor.isfinite().all()) for tensor in after.values()):
            raise EditError(ids, "the adapter became NaN or infinite", NOT_FINITE)
        for name in adapters:
            transaction.apply(self._change(name, before, after))
        self.states.keep(self.ledger, transaction, after)
        result.losses.update(dict.fromkeys(ids, losses))

    def _change(self, name: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> LowRank:
        """s·(B'A' − BA), of rank 2r."""
        scale = self.config.alpha / self.config.rank
        left, right = [scale * after[f"{name}/{B}"]], [after[f"{name}/{A}"].T]
        if before:
            left.append(-scale * before[f"{name}/{B}"].to(left[0]))
            right.append(before[f"{name}/{A}"].T.to(right[0]))
        return LowRank(f"{name}.weight", torch.cat(left, dim=1), torch.cat(right, dim=1))

    def _train(self, rows: TrainingRows, factors: list[Tensor]) -> list[float]:
        config, losses = self.config, list[float]()
        optimiser = torch.optim.AdamW(factors, lr=config.learning_rate, weight_decay=config.weight_decay)
        with torch.enable_grad():
            for _ in range(config.steps):
                loss = rows.loss()
                losses.append(float(loss.detach()))
                if not math.isfinite(losses[-1]):
                    reason = f"the training loss became {losses[-1]} at step {len(losses)}"
                    raise EditError(rows.ids, reason, NOT_FINITE)
                if losses[-1] < config.stop_loss:
                    break
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        return losses

    @contextmanager
    def _adapted(self) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
        """Within the block, adapters stand in the model; their factors A (r, in) and B (out, r) by module.

        They start from the run's seed, and so do the numbers that dropout draws with the number of batches.
        """
        peft, config, model = _peft(), self.config, self.lm.model
        with seeded(model, self.resources.seed):
            try:
                wrapped = peft.LoraModel(model, {ADAPTER: self._peft_config(peft)}, ADAPTER)
            except ValueError as error:
                raise ValueError(
                    f"lora: {self.lm.name} takes no such adapters ({error}); give method.modules"
                ) from error
            try:
                found = dict[str, tuple[Tensor, Tensor]]()
                for name, module in model.named_modules():
                    if isinstance(module, peft.tuners.lora.LoraLayer):
                        found[name] = module.lora_A[ADAPTER].weight, module.lora_B[ADAPTER].weight
                        module.lora_dropout.train(config.dropout > 0)
                for factor in (factor for pair in found.values() for factor in pair):
                    factor.data = factor.data.to(torch.promote_types(factor.dtype, torch.float32))
                torch.manual_seed(self.resources.seed + 1 + len(self.ledger))
                yield found
            finally:
                wrapped.unload()
                vars(model).pop("peft_config", None)
                model.eval().requires_grad_(False)

    def _peft_config(self, peft: Any) -> Any:
        config = self.config
        return peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=config.modules,
            layers_to_transform=config.layers or None,
            fan_in_fan_out=is_transposed(self.lm.mlp_out(0)),
        )

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Refuse what is no adapter of this rank."""
        if any(key.rpartition("/")[2] not in (A, B) or self.config.rank not in t.shape for key, t in state.items()):
            raise ValueError(f"this is no adapter of rank {self.config.rank}: it holds {sorted(state)}")

    def footprint(self) -> Footprint:
        """The adapter, whatever the number of edits; the weights hold its product."""
        return Footprint.of(self.states.last(self.ledger).values())


def _default_modules(shape: Shape) -> list[str]:
    """Names that peft gives adapters in a model of this kind."""
    known = _peft().utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    return list(known.get(shape.model.config.model_type, ()))


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ValueError("method=lora needs peft, which is not installed: pip install 'editbench[peft]'") from error
    return peft
