"""Values: vectors at the subject's last token that make the model predict the target, found by optimisation.

All edits of a batch are optimised at once, rows of similar length together. A step runs only the layers from the edited
one on and the columns from the subject's last token on (:mod:`editbench.locate_then_edit.shifted_forward`), the
vocabulary projection only where a target is predicted, and only edits that are not done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from editbench.checks import above_zero, at_least
from editbench.locate_then_edit.prompts import Row, cut_after_subject, edit_rows
from editbench.locate_then_edit.shifted_forward import AT_LAYER, ShiftedForward
from editbench.model.batching import ByRow, partition
from editbench.model.output_head import at_least_float32
from editbench.records import NOT_FINITE, EditError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editbench.model.language_model import LanguageModel
    from editbench.model.post_norms import PostNorm
    from editbench.records import EditRequest

    Losses = list[tuple[float, float, float, float]]


CPU_BYTES = 2 << 30
"""Memory of a chunk of edits on the CPU, at most."""


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
        train_eos: Add the EOS token to the target; no published code of this family does.
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
    """The value of one edit.

    Attributes:
        init: (d) vector that δ is added to, at the subject of the bare prompt.
        delta: (d) δ in the end.
        target: (d) goal for the output of the MLP (ROME) or of the edited layer (MEMIT, NSE): init + δ, or that after
            the norm behind the MLP.
        keys: (templates, d_ff) inputs of the edited layer's second projection at the subject.
        losses: For every forward pass (loss, nll, kl, weight decay).
    """

    init: Tensor
    delta: Tensor
    target: Tensor
    keys: Tensor
    losses: Losses = field(default_factory=list)


def optimise_values(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    templates: Sequence[str],
    layer: int,
    at: str,
    settings: ValueConfig,
    max_rows: int | None = None,
) -> list[Value]:
    """The value of every request, on the current weights, float32 (float64 if the model is), on the layer's device.

    An :class:`EditError` names the requests whose loss becomes NaN or infinite.

    Args:
        requests: Edits, each with a subject.
        templates: Context templates; the first must be the bare one.
        at: "mlp" or "layer" (:mod:`~editbench.locate_then_edit.shifted_forward`).
        max_rows: Rows that are run at once; None for as many as fit into free memory.
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
    """Number of rows of ``length`` tokens that can be optimised at once in free memory."""
    width = int(lm.config.hidden_size)
    numbers = length * (lm.n_layers - layer) * (16 * width + 4 * lm.d_ff(layer))
    weight = lm.weight(lm.mlp_out_name(layer))
    free = int(torch.cuda.mem_get_info(weight.device)[0] * 0.7) if weight.device.type == "cuda" else CPU_BYTES
    return max(1, free // max(1, numbers * weight.element_size()))


@dataclass(frozen=True)
class _Targets(ByRow):
    """Target tokens of a group's rows, all (P,)."""

    row: Tensor
    column: Tensor  # that predicts the token
    token: Tensor
    weight: Tensor  # of its NLL

    @classmethod
    def of(cls, rows: Sequence[tuple[int, float, Row]], dtype: torch.dtype, device: torch.device) -> _Targets:
        entries = [
            (i, row.first + j - row.subject, token, weight / len(row.targets))
            for i, (_, weight, row) in enumerate(rows)
            for j, token in enumerate(row.targets)
        ]
        places, weights = [entry[:3] for entry in entries], [entry[3] for entry in entries]
        row, column, token = torch.tensor(places, dtype=torch.long, device=device).reshape(-1, 3).unbind(1)
        return cls(row, column, token, torch.tensor(weights, dtype=dtype, device=device))


@dataclass(frozen=True)
class _KLRows(ByRow):
    """Rows (K,) whose prediction at the subject should stay, and log p (K, V) without a shift, after the first step."""

    row: Tensor
    reference: Tensor | None = None


class _Group:
    """Rows that are run together, of any edits, and the columns at which they are read."""

    def __init__(self, lm: LanguageModel, rows: Sequence[tuple[int, float, Row]], layer: int, at: str) -> None:
        self.lm = lm
        # A row that predicts nothing is a KL row, which needs no column behind the subject's.
        cut = [row if row.targets else cut_after_subject(row) for _, _, row in rows]
        self.forward = ShiftedForward.of(lm, cut, layer, at)
        self.owner = torch.tensor([edit for edit, _, _ in rows], device=lm.device)  # (B,) the row's edit
        self.targets = _Targets.of(rows, torch.float64 if lm.model.dtype == torch.float64 else torch.float32, lm.device)
        kl = [i for i, row in enumerate(cut) if not row.targets]
        self.kl = _KLRows(torch.tensor(kl, dtype=torch.long, device=lm.device))

    def terms(self, delta: Tensor, kl_factor: float) -> Tensor:
        """(2, N) shares of this group's rows in nll and kl of each of N edits; ``delta`` is (N, d)."""
        targets, kl_row = self.targets, self.kl.row
        shift = delta[self.owner.to(delta.device)]  # (B, d)
        rows, columns = torch.cat([targets.row, kl_row]), torch.cat([targets.column, torch.zeros_like(kl_row)])
        log_p = self.lm.logits(self.forward.final(shift, rows, columns)).log_softmax(-1)  # (targets + KL rows, V)
        n, there = len(targets.token), log_p.device
        nll = -log_p[:n].gather(1, targets.token.to(there)[:, None])[:, 0] * targets.weight.to(log_p)
        new = log_p[n:]  # (KL rows, V)
        reference = new.detach() if self.kl.reference is None else self.kl.reference  # the first step has no shift
        self.kl = replace(self.kl, reference=reference)
        kl = kl_factor * (new.exp() * (new - reference)).sum(-1)
        zeros = torch.zeros(len(delta), dtype=log_p.dtype, device=there)
        owner = self.owner.to(there)
        return torch.stack(
            [zeros.index_add(0, owner[targets.row.to(there)], nll), zeros.index_add(0, owner[kl_row.to(there)], kl)]
        )

    def keep(self, going: Tensor) -> bool:
        """Drop the rows of edits that are not marked in ``going`` (N,); whether any are left."""
        stay = going.to(self.owner.device)[self.owner]  # (B,)
        if bool(stay.all()) or not bool(stay.any()):
            return bool(stay.any())
        rows, place = stay.nonzero()[:, 0], stay.cumsum(0) - 1
        targets, kl = self.targets.select(stay[self.targets.row]), self.kl.select(stay[self.kl.row])
        self.targets, self.kl = replace(targets, row=place[targets.row]), replace(kl, row=place[kl.row])
        self.owner = self.owner[rows]
        self.forward = self.forward.select(rows).upto(int(targets.column.max()) + 1 if len(targets.column) else 1)
        return True


class _Problem:
    """A chunk of edits that are optimised together."""

    def __init__(self, lm: LanguageModel, ids: list[str], rows: list[list[Row]], layer: int, at: str) -> None:
        self.lm, self.ids, self.layer = lm, ids, layer
        flat = [(i, 1 / (len(group) - 1), row) for i, group in enumerate(rows) for row in group]
        reach = [len(row.ids) - row.subject if row.targets else 1 for _, _, row in flat]
        parts = partition(reach, lm.device)
        self.groups = [_Group(lm, [flat[i] for i in part], layer, at) for part in parts]
        order = torch.tensor([i for part in parts for i in part]).argsort()  # a row's index among all groups' rows
        rewriting = [i for i, (_, _, row) in enumerate(flat) if row.targets]
        self._places = order[torch.tensor(rewriting)].reshape(len(rows), -1)  # (N, templates)
        forwards = [group.forward for group in self.groups]
        self.init = self._bare([forward.init for forward in forwards])  # (N, d)
        keys = torch.cat([forward.keys for forward in forwards])
        self.keys = at_least_float32(keys[self._places.to(keys.device)])  # (N, templates, d_ff)
        self._behind: tuple[PostNorm, Tensor, Tensor] | None = None
        if at == AT_LAYER and (norm := lm.post_norm(layer)) is not None:
            inputs = self._bare([f.norm_input for f in forwards if f.norm_input is not None])
            self._behind = norm, inputs, self._bare([forward.hidden[:, 0] for forward in forwards])

    def _bare(self, parts: list[Tensor]) -> Tensor:
        """The rows of the bare prompts (N, d)."""
        whole = torch.cat(parts)
        return at_least_float32(whole[self._places[:, 0].to(whole.device)])

    def _targets(self, delta: Tensor) -> Tensor:
        """(N, d)."""
        if self._behind is None:
            return self.init + delta
        norm, entering, leaving = self._behind
        return leaving - norm(entering) + norm(entering + delta)

    def solve(self, settings: ValueConfig) -> list[Value]:
        """Optimise all edits together, each by its own loss."""
        n, init = len(self.ids), self.init
        delta = torch.zeros_like(init).requires_grad_()  # (N, d)
        losses: list[Losses] = [[] for _ in range(n)]
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
        """A step of Adam, then every δ back into the ball of radius clamp · ‖init‖; edits that are done do not move."""
        before = delta.clone()
        optimiser.step()
        bound, norm = clamp * self.init.norm(dim=-1, keepdim=True), delta.norm(dim=-1, keepdim=True)
        delta.mul_(torch.where(norm > bound, bound / norm, torch.ones_like(norm)))
        delta.copy_(torch.where(going[:, None], delta, before))

    def _check_finite(self, losses: list[Losses]) -> None:
        bad = [i for i, mine in zip(self.ids, losses, strict=True) if not all(map(math.isfinite, mine[-1]))]
        if bad:
            reason = f"the value optimisation's loss became NaN or infinite at layer {self.layer}"
            raise EditError(bad, reason, NOT_FINITE)
