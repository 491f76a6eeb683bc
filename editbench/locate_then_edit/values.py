"""Value optimisation: which vector at the subject's last token makes the model say the target.

All edits of a batch are optimised at once. A step runs only the layers from the edited one on, and only the columns
from the subject's last token on (see :mod:`editbench.locate_then_edit.shifted_forward`), rows of similar length
together. The vocabulary projection is applied only where a target is predicted. Edits that are done leave the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from editbench.checks import above_zero, at_least
from editbench.locate_then_edit.prompts import Row, cut_after_subject, edit_rows
from editbench.locate_then_edit.shifted_forward import AT_LAYER, ShiftedForward
from editbench.model.batching import partition
from editbench.records import NOT_FINITE, EditError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editbench.model.language_model import LanguageModel
    from editbench.records import EditRequest


CPU_BYTES = 2 << 30
"""Memory that a chunk of edits may take on the CPU."""


@dataclass
class ValueConfig:
    """Constants of the optimisation; the configs of the methods extend it. Defaults are ROME's for GPT-2 XL.

    Attributes:
        steps: Forward passes at most; one update fewer is made.
        learning_rate: Adam's.
        weight_decay: Factor of ‖δ‖ / ‖init‖².
        kl_factor: Factor of KL(p_new ‖ p_init) at the subject of "{subject} is a".
        clamp_norm_factor: ‖δ‖ is kept at or below this times ‖init‖.
        stop_loss: An edit is done when its loss falls below this.
        train_eos: The target is closed with the EOS token; no published code of this family does it.
    """

    steps: int = 20
    learning_rate: float = 0.5
    weight_decay: float = 0.5
    kl_factor: float = 0.0625
    clamp_norm_factor: float = 4.0
    stop_loss: float = 0.05
    train_eos: bool = False

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        above_zero(learning_rate=self.learning_rate, clamp_norm_factor=self.clamp_norm_factor)
        at_least(0, weight_decay=self.weight_decay, kl_factor=self.kl_factor, stop_loss=self.stop_loss)


@dataclass
class Value:
    """The outcome for one edit.

    Attributes:
        init: (d) what the variable is added to, at the subject of the bare prompt.
        delta: (d) the variable in the end.
        target: (d) where the MLP's output (:data:`~editbench.locate_then_edit.shifted_forward.AT_MLP`) or what leaves
            the edited layer (:data:`~editbench.locate_then_edit.shifted_forward.AT_LAYER`) should go: init + delta, or
            what a norm behind the MLP makes of that.
        keys: (templates, d_ff) inputs of the edited layer's second projection at the subject.
        losses: For every forward pass (loss, nll, kl, weight decay).
    """

    init: Tensor
    delta: Tensor
    target: Tensor
    keys: Tensor
    losses: list[tuple[float, float, float, float]] = field(default_factory=list)


def optimise_values(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    templates: Sequence[str],
    layer: int,
    at: str,
    settings: ValueConfig,
    max_rows: int | None = None,
) -> list[Value]:
    """Find the value of every request, on the model's current weights.

    Args:
        lm: The model.
        requests: Edits, each with a subject.
        templates: Context templates; the first must be the bare one.
        layer: Edited layer.
        at: :data:`~editbench.locate_then_edit.shifted_forward.AT_MLP` or
            :data:`~editbench.locate_then_edit.shifted_forward.AT_LAYER`.
        settings: Constants.
        max_rows: Rows that are run at once; None chooses by free memory.

    Returns:
        One value a request, float32 (float64 if the model is), on the edited layer's device.

    Raises:
        EditError: A loss became NaN or infinite; it names the request.
    """
    rows = [edit_rows(lm, r, templates, train_eos=settings.train_eos) for r in requests]
    per_edit = len(templates) + 1
    limit = max_rows or rows_that_fit(lm, max(len(row.ids) for group in rows for row in group), layer)
    size = max(1, limit // per_edit)
    values: list[Value] = []
    for start in range(0, len(requests), size):
        part = slice(start, start + size)
        values.extend(_Problem(lm, [r.id for r in requests[part]], rows[part], layer, at).solve(settings))
    return values


def rows_that_fit(lm: LanguageModel, length: int, layer: int) -> int:
    """How many rows of ``length`` tokens can be optimised at once in the memory that is free now."""
    width = int(lm.config.hidden_size)
    numbers = length * (lm.n_layers - layer) * (16 * width + 4 * lm.d_ff(layer))
    weight = lm.weight(lm.mlp_out_name(layer))
    free = int(torch.cuda.mem_get_info(weight.device)[0] * 0.7) if weight.device.type == "cuda" else CPU_BYTES
    return max(1, free // max(1, numbers * weight.element_size()))


class _Group:
    """Rows that are run together, whichever edits they belong to, and what is read off them."""

    def __init__(self, lm: LanguageModel, rows: Sequence[tuple[int, float, Row]], layer: int, at: str) -> None:
        """Prepare rows, each given with its edit and its weight in that edit's NLL."""
        self.lm = lm
        # A row that predicts nothing is a KL row, which needs no column behind the subject's.
        cut = [row if row.targets else cut_after_subject(row) for _, _, row in rows]
        self.suffixes = ShiftedForward(lm, cut, layer, at)
        device = lm.device
        self.owner = torch.tensor([edit for edit, _, _ in rows], device=device)  # (B,) the row's edit
        entries = [
            (i, row.first + j - row.subject, token, weight / len(row.targets))
            for i, (_, weight, row) in enumerate(rows)
            for j, token in enumerate(row.targets)
        ]
        at_row, column, token, weight = zip(*entries, strict=True) if entries else ((), (), (), ())
        self.at_row, self.column, self.token = (
            torch.tensor(x, dtype=torch.long, device=device) for x in (at_row, column, token)
        )
        wide = torch.float64 if lm.model.dtype == torch.float64 else torch.float32
        self.weight = torch.tensor(weight, dtype=wide, device=device)
        self.kl = torch.tensor([i for i, row in enumerate(cut) if not row.targets], dtype=torch.long, device=device)
        self.kl_reference: Tensor | None = None  # (KL rows, V)

    def terms(self, delta: Tensor, kl_factor: float) -> Tensor:
        """(2, N) nll and kl that this group's rows give to each of N edits; ``delta`` is (N, d)."""
        shift = delta[self.owner.to(delta.device)]  # (B, d)
        rows, columns = torch.cat([self.at_row, self.kl]), torch.cat([self.column, torch.zeros_like(self.kl)])
        log_p = self.lm.logits(self.suffixes.final(shift, rows, columns)).log_softmax(-1)  # (targets + KL rows, V)
        n, there = len(self.token), log_p.device
        nll = -log_p[:n].gather(1, self.token.to(there)[:, None])[:, 0] * self.weight.to(log_p)
        new = log_p[n:]  # (KL rows, V)
        if self.kl_reference is None:
            self.kl_reference = new.detach()  # the first step is made without a shift
        kl = kl_factor * (new.exp() * (new - self.kl_reference)).sum(-1)
        zeros = torch.zeros(len(delta), dtype=log_p.dtype, device=there)
        owner = self.owner.to(there)
        return torch.stack(
            [zeros.index_add(0, owner[self.at_row.to(there)], nll), zeros.index_add(0, owner[self.kl.to(there)], kl)]
        )

    def keep(self, going: Tensor) -> bool:
        """Drop the rows of all edits but those marked in ``going`` (N,); whether any are left."""
        stay = going.to(self.owner.device)[self.owner]  # (B,)
        if bool(stay.all()):
            return True
        rows = stay.nonzero()[:, 0]
        if len(rows) == 0:
            return False
        new_place = stay.cumsum(0) - 1
        entries = stay[self.at_row]
        self.at_row, self.column = new_place[self.at_row[entries]], self.column[entries]
        self.token, self.weight = self.token[entries], self.weight[entries]
        kl = stay[self.kl]
        self.kl = new_place[self.kl[kl]]
        if self.kl_reference is not None:
            self.kl_reference = self.kl_reference[kl.to(self.kl_reference.device)]
        self.owner = self.owner[rows]
        self.suffixes.narrow(rows, int(self.column.max()) + 1 if len(self.column) else 1)
        return True


class _Problem:
    """A chunk of edits, and the loop."""

    def __init__(self, lm: LanguageModel, ids: list[str], rows: list[list[Row]], layer: int, at: str) -> None:
        self.lm, self.ids, self.layer, self.at = lm, ids, layer, at
        flat = [(i, 1 / (len(group) - 1), row) for i, group in enumerate(rows) for row in group]
        reach = [len(row.ids) - row.subject if row.targets else 1 for _, _, row in flat]
        parts = partition(reach, lm.device)
        self.groups = [_Group(lm, [flat[i] for i in part], layer, at) for part in parts]
        order = torch.tensor([i for part in parts for i in part]).argsort()  # a row's place among the groups'
        rewriting = [i for i, (_, _, row) in enumerate(flat) if row.targets]
        self._places = order[torch.tensor(rewriting)].reshape(len(rows), -1)  # (N, templates)
        self.init = self._bare([group.suffixes.init for group in self.groups])  # (N, d)
        keys = torch.cat([group.suffixes.keys for group in self.groups])
        self.keys = _wide(keys[self._places.to(keys.device)])  # (N, templates, d_ff)
        norm = lm.post_norm(layer) if at == AT_LAYER else None
        inputs = [g.suffixes.norm_input for g in self.groups if g.suffixes.norm_input is not None]
        self._behind = (
            (norm, self._bare(inputs), self._bare([g.suffixes.leaving for g in self.groups])) if norm else None
        )

    def _bare(self, parts: list[Tensor]) -> Tensor:
        """Of all groups' rows, those of the bare prompts (N, d)."""
        whole = torch.cat(parts)
        return _wide(whole[self._places[:, 0].to(whole.device)])

    def _targets(self, delta: Tensor) -> Tensor:
        """(N, d)."""
        if self._behind is None:
            return self.init + delta
        norm, entering, leaving = self._behind
        return leaving - norm(entering) + norm(entering + delta)

    def solve(self, settings: ValueConfig) -> list[Value]:
        """The loop: forward, stop or update, project; all edits together, each by itself."""
        n, init = len(self.ids), self.init
        delta = torch.zeros_like(init).requires_grad_()  # (N, d)
        losses: list[list[tuple[float, float, float, float]]] = [[] for _ in range(n)]
        optimiser = torch.optim.Adam([delta], lr=settings.learning_rate)
        going = torch.ones(n, dtype=torch.bool, device=init.device)
        for step in range(settings.steps):
            last = step == settings.steps - 1
            optimiser.zero_grad(set_to_none=True)
            numbers = self._losses(delta, settings, backward=not last).tolist()
            active = going.tolist()
            for i in range(n):
                if active[i]:
                    loss, nll, kl, decay = (row[i] for row in numbers)
                    losses[i].append((loss, nll, kl, decay))
            self._check_finite(losses)
            going = going & (torch.tensor(numbers[0], device=going.device) >= settings.stop_loss)
            if last or not bool(going.any()):
                break
            self._update(optimiser, delta, going, settings.clamp_norm_factor)
            self.groups = [group for group in self.groups if group.keep(going)]
        found = delta.detach()
        targets = self._targets(found)
        return [Value(init[i], found[i], targets[i], self.keys[i], losses[i]) for i in range(n)]

    def _losses(self, delta: Tensor, settings: ValueConfig, *, backward: bool) -> Tensor:
        """(4, N) loss, nll, kl, weight decay, float64 on the CPU; ``backward`` leaves gradients in ``delta``."""
        with torch.set_grad_enabled(backward):
            decay = settings.weight_decay * delta.norm(dim=-1) / self.init.norm(dim=-1).square()
            if backward:
                decay.sum().backward()
            terms = torch.zeros(2, len(delta), dtype=torch.float64)
            for group in self.groups:
                part = group.terms(delta, settings.kl_factor)
                if backward:
                    part.sum().backward()  # type: ignore[no-untyped-call]
                terms += part.detach().double().cpu()
        nll, kl, decay = *terms, decay.detach().double().cpu()
        return torch.stack([nll + kl + decay, nll, kl, decay])

    @torch.no_grad()
    def _update(self, optimiser: torch.optim.Adam, delta: Tensor, going: Tensor, clamp: float) -> None:
        """One step of Adam; then every δ back onto the ball of radius clamp · ‖init‖. Edits that are done stay put."""
        before = delta.clone()
        optimiser.step()
        bound, norm = clamp * self.init.norm(dim=-1, keepdim=True), delta.norm(dim=-1, keepdim=True)
        delta.mul_(torch.where(norm > bound, bound / norm, torch.ones_like(norm)))
        delta.copy_(torch.where(going[:, None], delta, before))

    def _check_finite(self, losses: list[list[tuple[float, float, float, float]]]) -> None:
        bad = [i for i, mine in zip(self.ids, losses, strict=True) if not all(map(math.isfinite, mine[-1]))]
        if bad:
            reason = f"the value optimisation's loss became NaN or infinite at layer {self.layer}"
            raise EditError(bad, reason, NOT_FINITE)


def _wide(tensor: Tensor) -> Tensor:
    """float32, or float64 if it is."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
