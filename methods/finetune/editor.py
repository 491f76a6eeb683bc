"""FT-L: trains one weight on a batch of edits and keeps each of its numbers within a bound (L∞) of the original.

Zhu et al., "Modifying Memories in Transformer Models", 2020, as the baseline in Meng et al., 2022. Loss: mean over the
batch of the mean NLL of the target's tokens, gold prefix fed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from editbench.editor import Editor, EditResult
from editbench.ledger import Dense, Transaction
from editbench.locate_then_edit.prompts import target_ids
from editbench.model.architectures import is_transposed
from editbench.model.batching import PaddedBatch
from editbench.model.hooks import hooked
from editbench.model.partial_forward import run_layers
from editbench.records import NOT_FINITE, EditError, EditRequest

from .config import FineTuneConfig


class FineTune(Editor[FineTuneConfig]):
    """Trains the second MLP projection of one layer, a batch of edits at a time."""

    title = "FT-L"
    paper = "Zhu et al., 2020 (arXiv 2012.00363)"
    config_class = FineTuneConfig

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Train the weight in place, restore it, and apply the difference."""
        name = self.lm.mlp_out_name(self.config.layer)
        parameter: Tensor = self.lm.mlp_out(self.config.layer).weight  # type: ignore[assignment]
        original = parameter.detach().clone()
        try:
            with torch.enable_grad():
                parameter.requires_grad_(True)
                losses = self._train(parameter, original, _Batch(self, batch))
            delta = parameter.detach() - original
        finally:
            parameter.requires_grad_(False)
            parameter.grad = None
            parameter.data.copy_(original)
        transaction.apply(Dense(name, delta.T if is_transposed(self.lm.mlp_out(self.config.layer)) else delta))
        for request in batch:
            result.losses[request.id] = losses

    def _train(self, parameter: Tensor, original: Tensor, data: _Batch) -> list[float]:
        config, losses = self.config, []
        optimiser = torch.optim.Adam([parameter], lr=config.learning_rate, weight_decay=config.weight_decay)
        for _ in range(config.steps):
            optimiser.zero_grad(set_to_none=True)
            loss = data.loss()
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                reason = f"the training loss became {losses[-1]} at step {len(losses)}"
                raise EditError(data.ids, reason, NOT_FINITE)
            if losses[-1] < config.stop_loss:
                break
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if config.norm_bound is not None:
                with torch.no_grad():
                    parameter.clamp_(original - config.norm_bound, original + config.norm_bound)
        return losses


class _Batch:
    """Rows of a batch of edits, from the trained layer on."""

    def __init__(self, editor: FineTune, batch: Sequence[EditRequest]) -> None:
        self.lm, self.layer, self.ids = editor.lm, editor.config.layer, [r.id for r in batch]
        train_eos = editor.config.train_eos
        rows, where, tokens, weights = [], [], [], []
        for i, request in enumerate(batch):
            prompt, target = self.lm.encode(request.prompt).ids, target_ids(self.lm, request, train_eos)
            rows.append(prompt + target[:-1])
            where += [(i, len(prompt) - 1 + j) for j in range(len(target))]
            tokens += target
            weights += [1.0 / (len(target) * len(batch))] * len(target)
        device = self.lm.device
        self.columns = PaddedBatch.pad(rows, [0] * len(rows), self.lm.pad_id, device)
        self.where, self.tokens = torch.tensor(where, device=device), torch.tensor(tokens, device=device)
        self.weights = torch.tensor(weights, device=device)
        entering: list[Tensor] = []
        with torch.no_grad(), hooked(self.lm.layers[self.layer], lambda t: entering.append(t.clone()), inputs=True):
            run_layers(self.lm, self.columns, last=self.layer)
        self.entering = entering[0]  # (B, T, d): does not depend on the trained weight

    def loss(self) -> Tensor:
        """Mean over edits of the mean NLL per target token."""
        final = run_layers(self.lm, self.columns, first=self.layer, hidden=self.entering)
        at, tokens = self.where.to(final.device), self.tokens.to(final.device)
        log_p = self.lm.logits(final[at[:, 0], at[:, 1]]).log_softmax(-1)
        nll = -log_p.gather(1, tokens.to(log_p.device)[:, None])[:, 0]
        return (nll * self.weights.to(nll)).sum()
