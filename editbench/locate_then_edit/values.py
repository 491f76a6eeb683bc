"""Values: vectors at the subject's last token that make the model predict the target, found by optimisation.

All edits of a batch are optimised at once. A step runs only the layers from the edited one on and the tokens from the
subject's last one on, without padding (:mod:`editbench.locate_then_edit.shifted_forward`), the vocabulary projection
only where a target is predicted, and only edits that are not done.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.checks import above_zero, at_least
from editbench.locate_then_edit.prompts import Row, cut_after_subject, edit_rows
from editbench.locate_then_edit.shifted_forward import AT_LAYER, ShiftedForward
from editbench.model.batching import select
from editbench.model.output_head import at_least_float32
from editbench.records import NOT_FINITE, EditError, EditRequest
from editbench.search_space import Range

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel
    from editbench.model.post_norms import Behind

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

    steps: int = field(default=20, metadata={"search": Range(10, 50)})
    learning_rate: float = field(default=0.5, metadata={"search": Range(0.02, 1.0, log=True)})
    weight_decay: float = field(default=0.5, metadata={"search": Range(1e-4, 1.0, log=True)})
    kl_factor: float = 0.0625
    clamp_norm_factor: float = field(default=4.0, metadata={"search": Range(0.5, 50.0, log=True)})
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
        init: (d) vector that δ is added to, at the subject of the bare prompt; (2, d) of attention and MLP (PMET).
        delta: δ in the end, like init.
        target: Goal, like init, for the output of the MLP (ROME), of both parts (PMET), or of the edited layer (MEMIT,
            NSE): init + δ, or that after the norm behind the MLP.
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
        at: Place of δ, one of those in :mod:`~editbench.locate_then_edit.shifted_forward`.
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
    numbers = numbers_of_rows(length, lm.n_layers - layer, int(lm.config.hidden_size), lm.d_ff(layer))
    weight = lm.weight(lm.mlp_out_name(layer))
    free = int(torch.cuda.mem_get_info(weight.device)[0] * 0.7) if weight.device.type == "cuda" else CPU_BYTES
    return max(1, free // max(1, numbers * weight.element_size()))


def numbers_of_rows(length: int, layers: int, width: int, inputs: int) -> int:
    """Numbers that a row of ``length`` tokens is taken to hold while it is optimised through so many layers."""
    return length * layers * (16 * width + 4 * inputs)


class _Rows:
    """Rows of edits that are not done, and the tokens at which they are read."""

    def __init__(self, forward: ShiftedForward, owners: Sequence[int], dtype: torch.dtype) -> None:
        """``owners`` are the edits of the rows; a row that predicts nothing is a KL row, read at its subject."""
        self.forward, self.owners, self.dtype = forward, list(owners), dtype
        device = forward.lm.device
        count = Counter(owner for owner, row in zip(owners, forward.rows, strict=True) if row.targets)
        targets = [
            (forward.token(i, row.first + j), token, owner, 1 / count[owner] / len(row.targets))
            for i, (owner, row) in enumerate(zip(owners, forward.rows, strict=True))
            for j, token in enumerate(row.targets)
        ]
        kl = [i for i, row in enumerate(forward.rows) if not row.targets]
        self.n = len(targets)
        self.tokens = torch.tensor([t[0] for t in targets] + [forward.token(i, forward.rows[i].subject) for i in kl])
        self.tokens = self.tokens.to(device)  # (targets + KL rows,) of the forward pass, that are read
        self.gold = torch.tensor([t[1] for t in targets], dtype=torch.long, device=device)
        self.weights = torch.tensor([t[3] for t in targets], dtype=dtype, device=device)  # of the target tokens' NLL
        self.of_edit = torch.tensor([t[2] for t in targets] + [self.owners[i] for i in kl], device=device)
        self.owner = torch.tensor(self.owners, device=device)  # (B,)
        self.kl_edits = [self.owners[i] for i in kl]
        self.reference: Tensor | None = None  # log p (KL rows, V) without a shift, after the first step

    def terms(self, delta: Tensor, kl_factor: float) -> Tensor:
        """(2, N) each edit's nll and kl; ``delta`` is (N, d)."""
        shift = delta[self.owner.to(delta.device)]  # (B, d)
        log_p = self.forward.lm.logits(self.forward.final(shift, self.tokens)).log_softmax(-1)  # (tokens, V)
        n, there = self.n, log_p.device
        predicting, new = torch.split(log_p, [n, len(log_p) - n])  # (targets, V), (KL rows, V)
        nll = -predicting.gather(1, self.gold.to(there)[:, None])[:, 0] * self.weights.to(log_p)
        if self.reference is None:
            self.reference = new.detach()  # the first step has no shift
        kl = kl_factor * (new.exp() * (new - self.reference)).sum(-1)
        zeros, of_edit = torch.zeros(len(delta), dtype=log_p.dtype, device=there), self.of_edit.to(there)
        return torch.stack([zeros.index_add(0, of_edit[:n], nll), zeros.index_add(0, of_edit[n:], kl)])

    def keep(self, going: Sequence[bool]) -> _Rows:
        """The rows of edits that are marked in ``going`` (N)."""
        index = [i for i, owner in enumerate(self.owners) if going[owner]]
        if len(index) == len(self.owners):
            return self
        kept = _Rows(self.forward.select(index), [self.owners[i] for i in index], self.dtype)
        places = torch.tensor([i for i, edit in enumerate(self.kl_edits) if going[edit]], dtype=torch.long)
        kept.reference = select(self.reference, places)
        return kept


class _Problem:
    """A chunk of edits that are optimised together."""

    def __init__(self, lm: LanguageModel, ids: list[str], rows: list[list[Row]], layer: int, at: str) -> None:
        self.lm, self.ids, self.layer = lm, ids, layer
        flat = [(i, row) for i, group in enumerate(rows) for row in group]
        # A row that predicts nothing is a KL row, which needs no token behind the subject.
        cut = [row if row.targets else cut_after_subject(row) for _, row in flat]
        forward = ShiftedForward.of(lm, cut, layer, at)
        self.rows = _Rows(forward, [i for i, _ in flat], at_least_float32(torch.zeros(0, dtype=lm.model.dtype)).dtype)
        self._places = torch.tensor([i for i, (_, row) in enumerate(flat) if row.targets]).reshape(len(rows), -1)
        self.init = self._bare(forward.init)  # (N, d)
        self.keys = at_least_float32(select(forward.keys, self._places))  # (N, templates, d_ff)
        self._behind: tuple[Behind, Tensor, Tensor] | None = None
        if at == AT_LAYER and forward.norm_input is not None:
            norm, leaving = lm.post_norm(layer), select(forward.hidden, forward.subjects)
            assert norm is not None
            self._behind = norm, self._bare(forward.norm_input), self._bare(leaving)

    def _bare(self, by_row: Tensor) -> Tensor:
        """The rows of the bare prompts (N, d)."""
        return at_least_float32(select(by_row, self._places[:, 0]))

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
            self.rows = self.rows.keep(going.tolist())
        found = delta.detach()
        targets = self._targets(found)
        return [Value(init[i], found[i], targets[i], self.keys[i], losses[i]) for i in range(n)]

    def _losses(self, delta: Tensor, settings: ValueConfig, *, backward: bool) -> Tensor:
        """(4, N) loss, nll, kl, weight decay, float64 on the CPU; ``backward`` leaves gradients in ``delta``."""
        with torch.set_grad_enabled(backward):
            length = self.init.norm(dim=-1).square()
            length = torch.where(length > 0, length, torch.inf)  # an attention that is switched off takes no shift
            decay = settings.weight_decay * delta.norm(dim=-1) / length
            decay = decay.reshape(len(delta), -1).sum(1)  # over the parts that have a shift of their own
            if backward:
                decay.sum().backward()
            terms = self.rows.terms(delta, settings.kl_factor)
            if backward:
                terms.sum().backward()  # type: ignore[no-untyped-call]
        nll, kl, decay = *terms.detach().cpu().double(), decay.detach().cpu().double()
        return torch.stack([nll + kl + decay, nll, kl, decay])

    @torch.no_grad()
    def _update(self, optimiser: torch.optim.Adam, delta: Tensor, going: Tensor, clamp: float) -> None:
        """A step of Adam, then every δ back into the ball of radius clamp · ‖init‖; edits that are done do not move."""
        before = delta.clone()
        optimiser.step()
        bound, norm = clamp * self.init.norm(dim=-1, keepdim=True), delta.norm(dim=-1, keepdim=True)
        delta.mul_(torch.where(norm > bound, bound / norm, torch.ones_like(norm)))
        delta.copy_(torch.where(going.reshape(-1, *[1] * (delta.dim() - 1)), delta, before))

    def _check_finite(self, losses: list[Losses]) -> None:
        bad = [i for i, mine in zip(self.ids, losses, strict=True) if not all(map(math.isfinite, mine[-1]))]
        if bad:
            reason = f"the value optimisation's loss became NaN or infinite at layer {self.layer}"
            raise EditError(bad, reason, NOT_FINITE)
