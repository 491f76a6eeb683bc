"""SCEN: Scalable Model Editing via Customized Expert Networks (Yao et al., COLM 2024).

Every edit gets an expert, a changed copy of one layer's second MLP projection, and an indexing neuron that fires on its
prompt. The base model is never changed: a row for which no neuron fires gets the base model's own output, bit for bit.
"""

from __future__ import annotations

from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from editbench.editor import Capabilities, Editor, EditResult, Footprint
from editbench.locate_then_edit.prompts import target_ids
from editbench.progress import progress
from editbench.records import NOT_FINITE, EditError, Route

from .compression import pack
from .config import SCENConfig
from .expert_bank import Bank, Expert, Folder, Shelf
from .routing import HeldRouting, Routes
from .training import (
    Lessons,
    Training,
    initial_neuron,
    neuron_input,
    prompt_inputs,
    train_experts,
    train_neurons,
    wide,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from editbench.ledger import Ledger, Transaction
    from editbench.model.language_model import LanguageModel
    from editbench.records import EditRequest
    from editbench.resources import Resources

    from .compression import Packed

ROWS_AT_ONCE = 32


class SCEN(Editor[SCENConfig]):
    """Trains an expert and a neuron for each edit, and lets them answer within :meth:`answering`.

    Attributes:
        bank: All experts.
        initial_neurons: Initial values by edit id, (d_ff,) each; the others are drawn from the seed and the id.
    """

    config_class = SCENConfig
    capabilities = Capabilities(changes="modules")
    version = 2

    def __init__(
        self, lm: LanguageModel, ledger: Ledger, config: SCENConfig, resources: Resources | None = None
    ) -> None:
        """Start with an empty bank.

        Raises:
            ValueError: The layer does not exist, or ``train_eos`` is set and the tokenizer has no EOS token.
        """
        super().__init__(lm, ledger, config, resources)
        weight = lm.weight(lm.mlp_out_name(config.layer))
        like = torch.empty((0, lm.d_ff(config.layer)), dtype=wide(weight.dtype), device=weight.device)
        folder = Folder(Path(config.bank_directory)) if config.bank_directory is not None else None
        shelf = Shelf(weight.device, config.device_bytes, config.host_bytes, folder)
        self.bank = Bank(lm.mlp_out_name(config.layer), like, shelf)
        self.initial_neurons: Mapping[str, Tensor] = {}
        self._negatives: Tensor | None = None
        self._answering = False
        self._replacers: dict[str, str] = {}  # by replaced edit
        ledger.before_rollback.append(self._take_back)

    # -- editing --------------------------------------------------------------------------------------------------

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Train experts, then neurons; the bank takes them in only when all are trained."""
        packed: list[Packed] = []
        inputs: list[Tensor] = []
        with progress("experts", len(batch)) as advance:
            for start in range(0, len(batch), self.config.edits_at_once):
                part = batch[start : start + self.config.edits_at_once]
                lessons = Lessons(self.lm, self.config.layer, [self._row(request) for request in part])
                packed += self._experts(part, lessons, result)
                inputs.append(neuron_input(lessons.at_prompt, self.config.cosine))
                advance(len(part))
        own = torch.cat(inputs)  # (B, d_ff)
        neurons = self._neurons(batch, own, result)
        for i, request in enumerate(batch):
            expert = Expert(request.id, request.prompt, self.bank.weight, neurons[i], own[i], packed[i])
            replaced = self.bank.add(expert)
            self._replacers.pop(request.id, None)
            self._replacers.update(dict.fromkeys(replaced, request.id))
            _note(result, request, store=packed[i].kind, bytes=packed[i].nbytes, replaced=replaced)

    def _experts(self, part: Sequence[EditRequest], lessons: Lessons, result: EditResult) -> list[Packed]:
        """Stage 1."""
        deltas, losses = train_experts(lessons, self.config.expert_steps, self.config.learning_rate)
        _check_finite(part, deltas, "the expert's training loss became NaN or infinite")
        kept = pack(lessons, deltas, self.config)
        restored = torch.stack([p.delta(deltas.dtype) for p in kept])
        _check_finite(part, restored.to(lessons.inputs.dtype), f"the expert overflows in {lessons.inputs.dtype}")
        with torch.no_grad():
            after = lessons.answers(restored)[0].tolist()
        for i, request in enumerate(part):
            result.losses[request.id] = losses[i]
            error = (restored[i] - deltas[i]).norm() / deltas[i].norm()
            _note(result, request, loss=after[i], relative_error=float(error))
        return kept

    @torch.no_grad()
    def _neurons(self, batch: Sequence[EditRequest], own: Tensor, result: EditResult) -> Tensor:
        """Stage 2, of a whole batch at once: negatives of an edit are the ones before it, whatever batch they were in.

        Returns:
            (B, d_ff).
        """
        config, bank = self.config, self.bank
        generic = self._generic_inputs()
        prompts = [request.prompt for request in batch]
        allowed = torch.tensor(
            [
                [True] * len(generic)
                + [p != prompt for p in bank.prompts]
                + [j < i and p != prompt for j, p in enumerate(prompts)]
                for i, prompt in enumerate(prompts)
            ],
            device=own.device,
        )  # (B, G + N + B)
        rate = config.neuron_learning_rate or config.learning_rate
        rates = torch.full((len(batch),), rate, dtype=own.dtype, device=own.device)
        if config.lr_after_first is not None:
            rates[0 if len(bank) else 1 :] = config.lr_after_first
        start = [self.initial_neurons.get(r.id, initial_neuron(own.shape[1], self.resources.seed, r.id)) for r in batch]
        neurons, seen = train_neurons(
            torch.stack([r.to(own) for r in start]),
            own,
            [generic, bank.inputs, own],
            allowed,
            rates,
            config.neuron_steps,
            hinge=config.hinge,
        )
        _check_finite(batch, neurons, "the indexing neuron became NaN or infinite")
        _report(batch, seen, result)
        return neurons

    def _generic_inputs(self) -> Tensor:
        """(G, d_ff) what neurons see of the config's negatives; computed once, the base model never changes."""
        if self._negatives is None:
            self._negatives = self.inputs(
                [self.resources.prompt_format.apply(prompt) for prompt in self.config.negatives]
            )
        return self._negatives

    def inputs(self, texts: Sequence[str]) -> Tensor:
        """(B, d_ff) what neurons see at the last token of each text, given as the model sees it.

        A text that is longer than the model takes loses its beginning, as when it is asked; the BOS stays.
        """
        rows = [self._fitted(self.lm.encode(text).ids) for text in texts]
        parts = [
            prompt_inputs(self.lm, self.config.layer, rows[start : start + ROWS_AT_ONCE])
            for start in range(0, len(rows), ROWS_AT_ONCE)
        ]
        empty = self.bank.inputs[:0]
        return torch.cat([empty, *(neuron_input(part, self.config.cosine) for part in parts)])

    def _fitted(self, ids: list[int]) -> list[int]:
        excess = max(0, len(ids) - self.lm.max_length)
        keep = 1 if ids[:1] == [self.lm.tokenizer.bos_token_id] else 0
        return ids[:keep] + ids[keep + excess :]

    def _row(self, request: EditRequest) -> tuple[list[int], list[int]]:
        """Token ids of prompt and answer."""
        return self.lm.encode(request.prompt).ids, target_ids(self.lm, request, self.config.train_eos)

    # -- answering ------------------------------------------------------------------------------------------------

    @contextmanager
    def answering(self, last_prompt_columns: Sequence[int]) -> Iterator[HeldRouting]:
        """Let the experts answer whatever the model is asked within the block.

        Routes are decided at the first forward pass and hold for the block: use one block a batch of prompts.

        Args:
            last_prompt_columns: For each prompt of the batch, the column of its last token, padding counted. In
                generation each prompt may have several rows (beams, returned sequences), side by side.

        Raises:
            RuntimeError: A block is open already.
        """
        if self._answering:
            raise RuntimeError("scen: answering() is already open; its routes hold until the block ends")
        held = HeldRouting(last_prompt_columns, self._routes)
        if len(self.bank):
            held.attach(self.lm.layers[self.config.layer], self.lm.mlp_out(self.config.layer))
        self._answering = True
        try:
            yield held
        finally:
            self._answering = False
            held.detach()

    def for_texts(self) -> SCEN:
        """This editor with ``theta_texts`` for θ, where there is one; the bank is the same."""
        if self.config.theta_texts is None:
            return self
        view = copy(self)
        view.config = replace(self.config, theta=self.config.theta_texts)
        return view

    def activations(self, prompts: Sequence[str]) -> Tensor:
        """(B, N) activation of each neuron of the bank at the last token of each prompt, as the model sees it."""
        return (self.inputs(prompts) @ self.bank.neurons.T).sigmoid()

    def route(self, prompts: Sequence[str]) -> list[Route]:
        """The expert that answers each prompt, and the largest activation of any neuron."""
        if not len(self.bank):
            return [Route(None, 0.0)] * len(prompts)
        seen = zip(*self._winners(self.inputs(prompts)), strict=True)
        return [Route(self.bank.ids[w] if a > self.config.theta else None, a) for w, a in seen]

    def _winners(self, seen: Tensor) -> tuple[list[int], list[float]]:
        """The neuron with the largest activation on each input (B, d_ff), and that activation.

        Activations that round to 1 are told apart before the sigmoid.
        """
        before, winner = (seen @ self.bank.neurons.T).max(dim=1)
        return winner.tolist(), before.sigmoid().tolist()

    def _routes(self, x: Tensor) -> Routes:
        """The experts for inputs x (B, d_ff): where the largest activation exceeds θ."""
        while len(self.bank):
            seen = neuron_input(x, self.config.cosine).to(self.bank.neurons)
            winners = zip(*self._winners(seen), strict=True)
            of = [self.bank.ids[w] if a > self.config.theta else None for w, a in winners]
            experts = {id: self.bank.fetch(id) for id in dict.fromkeys(of) if id is not None}
            sound = {id: packed for id, packed in experts.items() if packed is not None}
            if len(sound) == len(experts):  # else a damaged expert has left the bank: choose among the others
                return Routes(of, sound)
        return Routes([None] * len(x), {})

    # -- the bank -------------------------------------------------------------------------------------------------

    def delete(self, id: str) -> None:
        """Take an edit back: the model answers as if it had not been made.

        Raises:
            ValueError: There is no such edit.
        """
        self.bank.delete(id)
        for gone in (id, *(older for older in self._replacers if self._heir(older) == id)):
            self.ledger.forget_id(gone)

    def _take_back(self, keep: int) -> None:
        """Let go of the edits that the ledger takes back.

        Raises:
            ValueError: One of those that stay was replaced, and its expert is gone.
        """
        stay = [i for entry in self.ledger.entries[:keep] for i in entry.ids]
        gone = [i for entry in self.ledger.entries[keep:] for i in entry.ids]
        held = {*self.bank.ids, *self.bank.lost}
        for id in stay:
            heir = self._heir(id)
            if heir in gone or heir not in held:
                raise ValueError(f"scen: cannot go back to edit {id!r}: one that came later replaced its expert")
        for id in dict.fromkeys(gone):
            if id in self.bank.ids:
                self.bank.delete(id)

    def _heir(self, id: str) -> str:
        """The edit that stands in the bank for ``id``: itself, or what replaced it in the end."""
        while id in self._replacers and self._replacers[id] != id:
            id = self._replacers[id]
        return id

    def save_bank(self, path: Path | str) -> None:
        """Write all edits into a folder, one file each, in place of the bank that may be there."""
        self.bank.save(Path(path))

    def load_bank(self, path: Path | str) -> dict[str, str]:
        """Append the edits of a folder.

        Returns:
            Edits that are lost, and why: their files are damaged.

        Raises:
            ValueError: It is the bank of another weight.
        """
        self.bank.load(Path(path))
        return dict(self.bank.lost)

    def footprint(self) -> Footprint:
        """Experts where they lie; neurons and their inputs with those of the layer's device."""
        shelf, bank = self.bank.shelf, self.bank
        indices = [bank.neurons, bank.inputs, self._negatives if self._negatives is not None else bank.inputs[:0]]
        near = shelf.device.nbytes + sum(t.numel() * t.element_size() for t in indices)
        disk = shelf.folder.nbytes if shelf.folder is not None else 0
        if bank.neurons.device.type == "cpu":
            return Footprint(host=near + shelf.host.nbytes, disk=disk)
        return Footprint(device=near, host=shelf.host.nbytes, disk=disk)

    def state(self) -> dict[str, Tensor]:
        """The whole bank."""
        return self.bank.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Hold the bank of ``state``, and nothing else.

        Raises:
            ValueError: It is not the state of this method at this layer.
        """
        self.bank.restore(state)


def _check_finite(requests: Sequence[EditRequest], tensors: Tensor, reason: str) -> None:
    """Refuse the requests whose tensors (B, …) hold NaN or infinite numbers.

    Raises:
        EditError: There are some; it names them.
    """
    finite = tensors.isfinite().flatten(1).all(dim=1).tolist()
    bad = [request.id for request, ok in zip(requests, finite, strict=True) if not ok]
    if bad:
        raise EditError(bad, reason, NOT_FINITE)


def _report(batch: Sequence[EditRequest], seen: Training, result: EditResult) -> None:
    losses, activations = seen.losses.T.tolist(), seen.activations[-1].tolist()
    for i, request in enumerate(batch):
        _note(result, request, neuron_losses=losses[i], activation=activations[i])


def _note(result: EditResult, request: EditRequest, **facts: Any) -> None:
    """Add facts about one edit to the result's details."""
    result.details.setdefault("edits", {}).setdefault(request.id, {}).update(facts)
