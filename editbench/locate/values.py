"""Value optimisation: which vector at the subject's last token makes the model say the target.

All edits of a batch are optimised at once. A step runs only the layers from the edited one on, and only the columns
from the subject's last token on: what lies left of it and below it does not depend on the variable, and is computed
once. Rows are padded so that their subject tokens share a column, so that the rest is an ordinary key-value cache.
The vocabulary projection is applied only where a target is predicted. Edits that are done leave the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from editbench.locate.checks import above_zero, at_least
from editbench.locate.partial import Columns, Prefix, recording_cache, run, watch
from editbench.locate.rows import Row, kl_row, rewriting_rows
from editbench.records import EditError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editbench.host import Host
    from editbench.records import EditRequest

AT_MLP = "mlp"
"""ROME: the variable is added to the MLP's output."""
AT_LAYER = "layer"
"""MEMIT, NSE: the variable is added to the decoder layer's output."""
CPU_BYTES = 2 << 30
"""Memory that a chunk of edits may take on the CPU."""


@dataclass
class ValueSettings:
    """Constants of the optimisation; the configs of the methods extend it. Defaults are ROME's for GPT-2 XL.

    Attributes:
        steps: Forward passes at most; one update fewer is made.
        learning_rate: Adam's.
        weight_decay: Factor of ‖δ‖ / ‖init‖².
        kl_factor: Factor of KL(p_new ‖ p_init) at the subject of "{subject} is a".
        clamp_norm_factor: ‖δ‖ is kept at or below this times ‖init‖.
        stop_loss: An edit is done when its loss falls below this.
    """

    steps: int = 20
    learning_rate: float = 0.5
    weight_decay: float = 0.5
    kl_factor: float = 0.0625
    clamp_norm_factor: float = 4.0
    stop_loss: float = 0.05

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        above_zero(learning_rate=self.learning_rate, clamp_norm_factor=self.clamp_norm_factor)
        at_least(0, weight_decay=self.weight_decay, kl_factor=self.kl_factor, stop_loss=self.stop_loss)


@dataclass
class Value:
    """The outcome for one edit: ``target = init + delta`` (d), and the loss terms of every forward pass.

    ``losses`` rows are (loss, nll, kl, weight decay).
    """

    init: Tensor
    delta: Tensor
    losses: list[tuple[float, float, float, float]] = field(default_factory=list)

    @property
    def target(self) -> Tensor:
        """Where the hidden state at the subject should go."""
        return self.init + self.delta


def optimise_values(
    host: Host,
    requests: Sequence[EditRequest],
    templates: Sequence[str],
    layer: int,
    at: str,
    settings: ValueSettings,
    max_rows: int | None = None,
) -> list[Value]:
    """Find the value of every request, on the model's current weights.

    Args:
        host: The model.
        requests: Edits, each with a subject.
        templates: Context templates; the first must be the bare one.
        layer: Edited layer.
        at: :data:`AT_MLP` or :data:`AT_LAYER`.
        settings: Constants.
        max_rows: Rows that are run at once; None chooses by free memory.

    Returns:
        One value a request, float32 (float64 if the model is), on the edited layer's device.

    Raises:
        EditError: A loss became NaN or infinite; it names the request.
    """
    rows = [[*rewriting_rows(host, r, templates), kl_row(host, r)] for r in requests]
    per_edit = len(templates) + 1
    limit = max_rows or rows_that_fit(host, max(len(row.ids) for group in rows for row in group), layer)
    size = max(1, limit // per_edit)
    values: list[Value] = []
    for start in range(0, len(requests), size):
        problem = _Problem(host, [r.id for r in requests[start : start + size]], rows[start : start + size], layer, at)
        values.extend(problem.solve(settings))
    return values


def rows_that_fit(host: Host, length: int, layer: int) -> int:
    """How many rows of ``length`` tokens can be optimised at once in the memory that is free now."""
    width = int(host.config.hidden_size)
    numbers = length * (host.n_layers - layer) * (16 * width + 4 * host.d_ff(layer))
    weight = host.weight(host.mlp_out_name(layer))
    free = int(torch.cuda.mem_get_info(weight.device)[0] * 0.7) if weight.device.type == "cuda" else CPU_BYTES
    return max(1, free // max(1, numbers * weight.element_size()))


class _Problem:
    """A chunk of edits: their rows, everything that is computed once, and the loop."""

    def __init__(self, host: Host, ids: list[str], rows: list[list[Row]], layer: int, at: str) -> None:
        self.host, self.ids, self.layer, self.at = host, ids, layer, at
        self.first = layer if at == AT_MLP else layer + 1  # first layer that a step runs
        flat = [row for group in rows for row in group]
        self.start = max(row.subject for row in flat)  # the subjects' column
        device = host.device
        self.columns = Columns.pad([r.ids for r in flat], [r.subject for r in flat], host.pad_id, device)
        self.owner = torch.tensor([i for i, group in enumerate(rows) for _ in group], device=device)  # (B,)
        self._read_off_targets(rows)
        self._prepare()

    def _read_off_targets(self, rows: list[list[Row]]) -> None:
        """Where log-probabilities are needed: one entry a target token; and one KL row an edit."""
        row_at, column, token, weight, edit, kl = [], [], [], [], [], []
        index = 0
        for i, group in enumerate(rows):
            rewriting = sum(1 for row in group if row.targets)
            for row in group:
                for j, target in enumerate(row.targets):
                    row_at.append(index)
                    column.append(row.first + j - row.subject)  # counted from the subject's column
                    token.append(target)
                    weight.append(1.0 / (len(row.targets) * rewriting))
                    edit.append(i)
                if not row.targets:
                    kl.append(index)
                index += 1
        device = self.host.device
        self.row_at, self.column, self.token, self.edit, self.kl = (
            torch.tensor(x, device=device) for x in (row_at, column, token, edit, kl)
        )
        wide = torch.float64 if self.host.model.dtype == torch.float64 else torch.float32
        self.weight = torch.tensor(weight, dtype=wide, device=device)
        self.reach = int(self.column.max()) + 1  # columns from the subject on that matter

    @torch.no_grad()
    def _prepare(self) -> None:
        """One pass over whole rows: what enters the first layer of a step, keys and values, init, KL's reference."""
        host, seen = self.host, {}
        cache = recording_cache(host)
        columns = self.columns.upto(self.start + self.reach)
        bare = torch.tensor([i for i, o in enumerate(self.owner.tolist()) if i == 0 or o != int(self.owner[i - 1])])

        def keep(name: str, tensor: Tensor) -> None:
            seen[name] = tensor.reshape(len(self.owner), -1, tensor.shape[-1])[:, self.start :].clone()

        edited = host.layers[self.layer]
        with watch(edited, lambda t: keep("entering", t), inputs=True), watch(edited, lambda t: keep("leaving", t)):  # noqa: SIM117
            with watch(host.mlp_out(self.layer), lambda t: keep("mlp", t)):
                final = run(host, columns, cache=cache)  # (B, T, d)
        self.hidden = seen["entering" if self.at == AT_MLP else "leaving"]  # (B, T', d)
        init = seen["mlp" if self.at == AT_MLP else "leaving"][bare.to(self.hidden.device), 0]
        self.init = init if init.dtype == torch.float64 else init.float()  # (N, d)
        self.prefix = Prefix.of(cache, self.first, self.start)
        self.columns = columns
        at_subject = final[self.kl.to(final.device), self.start]
        self.kl_reference = host.logits(at_subject).log_softmax(-1)  # (N, V)

    def solve(self, settings: ValueSettings) -> list[Value]:
        """The loop: forward, stop or update, project; per edit, all edits together."""
        n = len(self.ids)
        deltas = [torch.zeros_like(self.init[i]).requires_grad_() for i in range(n)]
        values = [Value(self.init[i], deltas[i]) for i in range(n)]
        optimiser = torch.optim.Adam(deltas, lr=settings.learning_rate)
        active = list(range(n))
        for step in range(settings.steps):
            optimiser.zero_grad(set_to_none=True)
            with torch.enable_grad():
                terms = self._losses(active, torch.stack([deltas[i] for i in active]), settings)  # (4, N')
            numbers = terms.detach().double().cpu().T.tolist()
            for i, row in zip(active, numbers, strict=True):
                values[i].losses.append((row[0], row[1], row[2], row[3]))
            self._check_finite(active, numbers)
            if step == settings.steps - 1:
                break
            going = [k for k, row in enumerate(numbers) if row[0] >= settings.stop_loss]
            if not going:
                break
            terms[0, going].sum().backward()
            for k, i in enumerate(active):
                if numbers[k][0] < settings.stop_loss:
                    deltas[i].grad = None  # else Adam would move it on by its momentum
            optimiser.step()
            active = [active[k] for k in going]
            self._project([deltas[i] for i in active], self.init[active], settings.clamp_norm_factor)
            if len(going) < len(numbers):
                self._keep(going)
        for value in values:
            value.delta = value.delta.detach()
        return values

    def _losses(self, active: list[int], delta: Tensor, settings: ValueSettings) -> Tensor:
        """(4, N'): loss, nll, kl, weight decay of every active edit. ``delta`` is (N', d)."""
        host, owner = self.host, self.owner
        shift = delta[owner.to(delta.device)]  # (B, d)
        if self.at == AT_LAYER:
            final = self._run(_add_at_first_column(self.hidden, shift))
        else:
            shape = self.hidden.shape[:2]
            with watch(
                host.mlp_out(self.layer),
                lambda out: _add_at_first_column(out.reshape(*shape, -1), shift).reshape(out.shape),
            ):
                final = self._run(self.hidden)
        where = final.device
        rewriting = final[self.row_at.to(where), self.column.to(where)]  # (targets, d)
        at_subject = final[self.kl.to(where), 0]  # (N', d)
        log_p = host.logits(torch.cat([rewriting, at_subject])).log_softmax(-1)
        token_nll = -log_p[: len(rewriting)].gather(1, self.token.to(log_p.device)[:, None])[:, 0]
        weighted = token_nll * self.weight.to(token_nll)
        nll = torch.zeros(len(active), dtype=weighted.dtype, device=weighted.device)
        nll = nll.index_add(0, self.edit.to(weighted.device), weighted)
        new = log_p[len(rewriting) :]
        kl = settings.kl_factor * (new.exp() * (new - self.kl_reference.to(new.device))).sum(-1)
        init = self.init[active]
        decay = settings.weight_decay * delta.norm(dim=-1) / init.norm(dim=-1).square()
        decay = decay.to(nll)
        return torch.stack([nll + kl + decay, nll, kl, decay])

    def _run(self, hidden: Tensor) -> Tensor:
        return run(self.host, self.columns, first=self.first, hidden=hidden, cache=self.prefix, start=self.start)

    def _keep(self, going: list[int]) -> None:
        """Only the edits ``going`` (indices among the active ones) go on: cut the batch down to their rows."""
        device = self.owner.device
        new_edit = torch.full((int(self.owner.max()) + 1,), -1, device=device)
        new_edit[torch.tensor(going, device=device)] = torch.arange(len(going), device=device)
        rows = (new_edit[self.owner] >= 0).nonzero()[:, 0]
        new_row = torch.full((len(self.owner),), -1, device=device)
        new_row[rows] = torch.arange(len(rows), device=device)
        entries = (new_edit[self.edit] >= 0).nonzero()[:, 0]
        self.row_at, self.edit = new_row[self.row_at[entries]], new_edit[self.edit[entries]]
        self.column, self.token, self.weight = self.column[entries], self.token[entries], self.weight[entries]
        self.kl = new_row[self.kl[torch.tensor(going, device=device)]]
        self.kl_reference = self.kl_reference[torch.tensor(going, device=self.kl_reference.device)]
        self.owner = new_edit[self.owner[rows]]
        self.reach = int(self.column.max()) + 1
        self.hidden = self.hidden[rows.to(self.hidden.device), : self.reach]
        self.columns = self.columns.rows(rows).upto(self.start + self.reach)
        self.prefix = self.prefix.rows(rows)

    def _check_finite(self, active: list[int], numbers: list[list[float]]) -> None:
        bad = [self.ids[i] for i, row in zip(active, numbers, strict=True) if not all(map(math.isfinite, row))]
        if bad:
            raise EditError(bad, f"the value optimisation's loss became NaN or infinite at layer {self.layer}")

    @staticmethod
    @torch.no_grad()
    def _project(deltas: list[Tensor], init: Tensor, clamp: float) -> None:
        """Scale every δ back onto the ball of radius clamp · ‖init‖ if it left it."""
        for delta, start in zip(deltas, init, strict=True):
            bound = clamp * start.norm()
            norm = delta.norm()
            delta.mul_(torch.where(norm > bound, bound / norm, torch.ones_like(norm)))


def _add_at_first_column(hidden: Tensor, shift: Tensor) -> Tensor:
    """``hidden`` (B, T, d) with ``shift`` (B, d) added at column 0."""
    first = hidden[:, :1] + shift[:, None].to(hidden)
    return torch.cat([first, hidden[:, 1:]], dim=1)
