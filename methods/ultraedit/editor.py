"""UltraEdit: the update of a batch from one forward and one backward pass.

Gu et al., "UltraEdit: Training-, Subject-, and Memory-Free Lifelong Editing in Language Models", 2025. Shapes: N
trained tokens of a batch, inputs H (N, d_in) of an edited module, gradients G (N, d_out) of the loss at its output.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from editbench.editor import EditResult, Footprint
from editbench.gradient_based.editor import BatchStateEditor
from editbench.gradient_based.training_rows import TrainingRows
from editbench.ledger import Dense, LowRank
from editbench.model.architectures import ArchitectureError, module_at
from editbench.records import NOT_FINITE, EditError, EditRequest

from .config import PUBLISHED, SHAPE, UltraEditConfig
from .normalisation import Normaliser

if TYPE_CHECKING:
    from editbench.ledger import Ledger, Transaction
    from editbench.model.language_model import LanguageModel
    from editbench.resources import Resources

Seen = dict[str, tuple[Tensor, Tensor]]
"""By module: H and G, float32 or wider."""


class UltraEdit(BatchStateEditor[UltraEditConfig]):
    """Normalises inputs and gradients by all edits so far, and solves for the update of each module."""

    title = "UltraEdit"
    paper = "Gu et al., 2025 (arXiv 2505.14679)"
    config_class = UltraEditConfig

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: UltraEditConfig, resources: Resources | None = None):
        """Find the modules; a ValueError for a layer or module that the model does not have."""
        super().__init__(lm, ledger, config, resources)
        names = config.modules or [lm.mlp_out_name(layer).removesuffix(".weight") for layer in config.layers]
        self.modules = {name: self._module(name) for name in names}
        self._warm: dict[str, Normaliser] | None = None  # before the first edit

    def layers(self) -> list[int]:
        """Those of the config, where it names no modules."""
        return [] if self.config.modules else self.config.layers

    def _module(self, name: str) -> nn.Module:
        try:
            found, weight = module_at(self.lm.model, name), self.lm.weight(f"{name}.weight")
        except (ArchitectureError, AttributeError) as error:
            raise ValueError(f"method.modules: {self.lm.name} has no module {name!r} with a weight") from error
        if weight.ndim != 2:
            raise ValueError(f"method.modules: the weight of {name} has {weight.ndim} dimensions; name linear modules")
        return found

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """Take the statistics of the training records, on the unedited model."""
        self._at_start()

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Add the batch to the statistics, then update all modules from the same backward passes."""
        statistics, parts = self._statistics(), []
        for losses, seen in self._passes(batch):
            result.losses.update(losses)
            self._add(statistics, seen)
            parts.append(seen)
        norms = {}
        for name in self.modules:
            inputs, gradients = (torch.cat([part[name][side] for part in parts]) for side in (0, 1))
            change = self._update(name, inputs, gradients, statistics[self._key(name)])
            transaction.apply(change)
            norms[name] = _norm(change)
        self.states.keep(self.ledger, transaction, _to_tensors(statistics))
        result.details["update_norms"] = norms

    def _passes(self, batch: Sequence[EditRequest]) -> Iterator[tuple[dict[str, list[float]], Seen]]:
        """Losses by edit, H and G of each part of a batch; longest rows first, so that padding is least."""
        length = {
            r.id: len(self.lm.encode(r.prompt).ids) + len(self.lm.continuation(r.target, self.lm.spaced(r.prompt)))
            for r in batch
        }
        order = sorted(batch, key=lambda request: -length[request.id])
        for start in range(0, len(order), self.config.edits_at_once):
            rows = TrainingRows(
                self.lm, order[start : start + self.config.edits_at_once], train_eos=self.config.train_eos
            )
            nll, seen = self._backward(rows)
            finite = all(bool(tensor.isfinite().all()) for pair in seen.values() for tensor in pair)
            if not (finite and bool(nll.isfinite().all())):
                raise EditError(rows.ids, "the loss or its gradient became NaN or infinite", NOT_FINITE)
            yield {id: [loss] for id, loss in zip(rows.ids, rows.by_edit(nll), strict=True)}, seen

    def _backward(self, rows: TrainingRows) -> tuple[Tensor, Seen]:
        """NLL (N,) of the trained tokens, with inputs and gradients of every module there."""
        inputs, outputs = dict[str, Tensor](), dict[str, Tensor]()

        def watch(name: str, module: nn.Module) -> Any:
            def note(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
                inputs[name] = args[0].detach()
                outputs[name] = output if output.requires_grad else output.detach().requires_grad_()
                return outputs[name]

            return module.register_forward_hook(note)

        with ExitStack() as stack, torch.enable_grad():
            for name, module in self.modules.items():
                stack.callback(watch(name, module).remove)
            nll = rows.nll()
            gradients = torch.autograd.grad(nll.mean(), [outputs[name] for name in self.modules])
        row, column = rows.at.T

        def at(tensor: Tensor) -> Tensor:
            laid_out = tensor.reshape(*rows.columns.ids.shape, -1)[row.to(tensor.device), column.to(tensor.device)]
            return laid_out.to(torch.promote_types(tensor.dtype, torch.float32))

        seen = {n: (at(inputs[n]), at(g)) for n, g in zip(self.modules, gradients, strict=True)}
        return nll.detach(), seen

    def _key(self, name: str) -> str:
        """Name of the statistics to which a module belongs."""
        if self.config.statistics != SHAPE:
            return name
        out, into = self.lm.weight(f"{name}.weight").shape
        return f"{into}x{out}"

    def _add(self, statistics: dict[str, Normaliser], seen: Seen) -> None:
        for name, pair in seen.items():
            x = torch.cat(pair, dim=1)  # (N, d_in + d_out)
            normaliser = statistics.setdefault(self._key(name), Normaliser.empty(x))
            normaliser.add(x.to(normaliser.mean.device), self.config.merge == PUBLISHED)

    def _update(self, name: str, inputs: Tensor, gradients: Tensor, normaliser: Normaliser) -> LowRank | Dense:
        """The change of a module's weight: (HᵀH + λ)⁻¹ HᵀV, transposed, with V = -lr ‖ĥ‖² ĝ."""
        x = normaliser.normalise(torch.cat([inputs, gradients], dim=1).to(normaliser.mean.device)).to(inputs.device)
        scaled, direction = x[:, : inputs.shape[1]], x[:, inputs.shape[1] :]
        values = -self.config.learning_rate * scaled.square().sum(1, keepdim=True) * direction  # V (N, d_out)
        h, v, weight = inputs.double(), values.double(), f"{name}.weight"
        tokens, width = h.shape
        small = h @ h.T if tokens <= width else h.T @ h
        small.diagonal().add_(self.config.ridge)
        if tokens > width:
            return Dense(weight, torch.linalg.solve(small, h.T @ v).T.to(values.dtype))
        left = torch.linalg.solve(small, v).T.to(values.dtype)  # (d_out, N)
        if tokens * (width + v.shape[1]) < width * v.shape[1]:
            return LowRank(weight, left, inputs.T.to(values.dtype))
        return Dense(weight, left @ inputs.to(values.dtype))

    def _statistics(self) -> dict[str, Normaliser]:
        """Statistics of all edits in the ledger, which may be added to."""
        state = self.states.last(self.ledger)
        return _from_tensors(state, self._like) if state else {k: s.copy() for k, s in self._at_start().items()}

    def _at_start(self) -> dict[str, Normaliser]:
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
        _from_tensors(state, self._like)


def _norm(change: LowRank | Dense) -> float:
    """Frobenius norm of a change."""
    if isinstance(change, Dense):
        return float(change.delta.norm())
    left, right = change.left.double(), change.right.double()
    return math.sqrt(max(0.0, float(((left.T @ left) * (right.T @ right)).sum())))


def _to_tensors(statistics: Mapping[str, Normaliser]) -> dict[str, Tensor]:
    return {f"{key}/{name}": t for key, one in statistics.items() for name, t in one.tensors().items()}


def _from_tensors(state: Mapping[str, Tensor], like: Tensor) -> dict[str, Normaliser]:
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        name, _, part = key.rpartition("/")
        parts.setdefault(name, {})[part] = tensor
    try:
        return {name: Normaliser.of(tensors, like) for name, tensors in parts.items()}
    except KeyError as error:
        raise ValueError(f"these are no statistics of UltraEdit ({error} is missing): {sorted(state)}") from error
