"""Stage 1: an expert is the layer's weight, trained alone on one edit.

An expert is kept as its difference D from the base weight W: for the projection's input x it puts out x Wᵀ + x Dᵀ, so
that rows without an expert get the base model's own. Adam on D takes the steps that it would take on W + D. Nothing
below the layer depends on D: the hidden states that enter it are computed once.

Shapes: B edits, T columns, M answer tokens of all edits together.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from editbench.locate.partial import Columns, run, watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from editbench.host import Host


class Lessons:
    """A batch of edits as token rows, with what the base model makes of them up to the edited layer.

    Attributes:
        inputs: (B, T, d_ff) input of the layer's second projection, in the model's dtype.
        at_prompt: (B, d_ff) the same at each row's last prompt token: what neurons are trained on.
        edit_of: (M,) the edit to which an answer token belongs.
    """

    def __init__(self, host: Host, layer: int, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> None:
        """Run the base model up to ``layer``.

        Args:
            host: The model.
            layer: The edited layer.
            rows: Token ids of prompt and answer (its closing EOS too, where that is trained).
        """
        self.host, self.layer = host, layer
        whole = [[*prompt, *answer[:-1]] for prompt, answer in rows]
        self.columns = Columns.pad(whole, [0] * len(rows), host.pad_id, host.device)
        places = [(i, len(p) - 1 + j) for i, (p, answer) in enumerate(rows) for j in range(len(answer))]
        self._at = torch.tensor(places).T.to(host.device)  # (2, M)
        self._gold = torch.tensor([token for _, answer in rows for token in answer], device=host.device)  # (M,)
        self.edit_of = self._at[0]
        self._entering, self.inputs = _base_pass(host, layer, self.columns)
        self.at_prompt = _pick(self.inputs, [len(prompt) - 1 for prompt, _ in rows])

    def __len__(self) -> int:
        return len(self.inputs)

    def own_inputs(self, edit: int) -> Tensor:
        """(t, d_ff) inputs of one edit at its own tokens, padding left out."""
        return self.inputs[edit][self.columns.mask[edit].bool().to(self.inputs.device)]

    def answers(self, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """What the model says with experts W + ``deltas`` (B, d, d_ff), gold prefix fed in.

        Returns:
            (B,) mean NLL over each edit's answer tokens, float32 or wider, and (M,) the argmax at each of them.
        """
        with _with_experts(self.host, self.layer, deltas):
            final = run(self.host, self.columns, first=self.layer, hidden=self._entering)
        row, column = self._at.to(final.device)
        log_p = self.host.logits(final[row, column]).log_softmax(-1)  # (M, V)
        edit = self.edit_of.to(log_p.device)
        nll = -log_p.gather(1, self._gold.to(log_p.device)[:, None])[:, 0]
        tokens = edit.bincount(minlength=len(self)).to(nll)
        return nll.new_zeros(len(self)).index_add(0, edit, nll) / tokens, log_p.argmax(-1)


def prompt_inputs(host: Host, layer: int, prompts: Sequence[Sequence[int]]) -> Tensor:
    """(B, d_ff) input of the layer's second projection at the last token of each prompt, base model."""
    columns = Columns.pad(prompts, [0] * len(prompts), host.pad_id, host.device)
    return _pick(_base_pass(host, layer, columns)[1], [len(prompt) - 1 for prompt in prompts])


def train_experts(lessons: Lessons, steps: int, learning_rate: float) -> tuple[Tensor, list[list[float]]]:
    """Train one expert an edit, all of them at once and none seeing another.

    Loss: mean cross-entropy over the answer's tokens; Adam, its defaults otherwise; from the base weight.

    Returns:
        Differences from the base weight (B, d, d_ff), float32 or wider, and per edit the loss before each step. They
        may not be finite: the caller looks.
    """
    base = lessons.host.weight(lessons.host.mlp_out_name(lessons.layer))  # (d, d_ff)
    deltas = torch.zeros((len(lessons), *base.shape), dtype=wide(base.dtype), device=base.device, requires_grad=True)
    optimiser = torch.optim.Adam([deltas], lr=learning_rate, fused=True)
    losses = []
    with torch.enable_grad():
        for _ in range(steps):
            loss = lessons.answers(deltas)[0]
            losses.append(loss.detach())
            optimiser.zero_grad()
            torch.autograd.backward(loss.sum())
            optimiser.step()
    return deltas.detach(), torch.stack(losses, dim=1).tolist()


@torch.no_grad()
def _base_pass(host: Host, layer: int, columns: Columns) -> tuple[Tensor, Tensor]:
    """What enters ``layer`` (B, T, d), and what enters its second projection (B, T, d_ff)."""
    entering: list[Tensor] = []
    inputs: list[Tensor] = []
    with (
        watch(host.layers[layer], lambda t: entering.append(t.clone()), inputs=True),
        watch(host.mlp_out(layer), lambda t: inputs.append(t.clone()), inputs=True),
    ):
        run(host, columns, last=layer)
    return entering[0], inputs[0].reshape(*columns.ids.shape, -1)


def _pick(tensor: Tensor, columns: Sequence[int]) -> Tensor:
    """(B, n) of (B, T, n): one column a row."""
    return tensor[torch.arange(len(tensor), device=tensor.device), torch.tensor(columns, device=tensor.device)]


@contextmanager
def _with_experts(host: Host, layer: int, deltas: Tensor) -> Iterator[None]:
    """Within the block, row i of a batch has the expert W + ``deltas[i]``."""

    def add(module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = args[0].reshape(len(deltas), -1, deltas.shape[-1])  # (B, T, d_ff), also where the model flattens its rows
        return output + (x @ deltas.to(x.dtype).mT).reshape(output.shape)

    handle = host.mlp_out(layer).register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def wide(dtype: torch.dtype) -> torch.dtype:
    """float32, or float64 where the model has it: what is trained is never half precision."""
    return torch.promote_types(dtype, torch.float32)
