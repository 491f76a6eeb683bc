"""SCEN: Scalable Model Editing via Customized Expert Networks (Yao et al., COLM 2024).

Every edit gets an expert, a changed copy of one layer's second MLP projection, and an indexing neuron that fires on its
prompt. The base weights never change: a row for which no neuron fires gets the base model's own output, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from editbench.editor import EditResult, Footprint
from editbench.locate_then_edit.prompts import target_ids
from editbench.memory_based.delta_answers import DeltaAnswers
from editbench.memory_based.editor import MemoryBasedEditor, all_finite
from editbench.memory_based.target_rows import wide
from editbench.progress import progress
from editbench.records import NOT_FINITE, EditError, EditRequest, Route
from editbench.room import OF_AN_ENTRY, Room, grown

from .compression import compress
from .config import SCENConfig
from .expert_bank import ExpertBank
from .expert_files import Expert
from .neuron_index import standing
from .training import ExpertBatch, initial_neuron, neuron_input, train_experts, train_neurons

if TYPE_CHECKING:
    from editbench.ledger import Blob, EditBatch, Ledger, Transaction
    from editbench.memory_based.compression import CompressedDelta
    from editbench.memory_based.routing import Prompts
    from editbench.model.language_model import LanguageModel
    from editbench.model.shape import Shape
    from editbench.resources import Resources
    from editbench.room import Workload


@dataclass(frozen=True)
class TrainedExpert:
    """An edit's expert as it is kept, or the ``error`` that left none.

    Attributes:
        own: (d_ff) input of the neurons at the edit's prompt.
        losses: Before each step.
        loss: With the expert as it is kept.
        relative_error: Of the kept expert against the trained one.
    """

    expert: CompressedDelta | None
    own: Tensor
    losses: list[float]
    loss: float
    relative_error: float
    error: str = ""


class SCEN(MemoryBasedEditor[SCENConfig]):
    """Trains an expert and a neuron for each edit; they answer within :meth:`answering`.

    Attributes:
        initial_neurons: Given initial values by edit id, (d_ff,) each; others are drawn from the seed and the id.
    """

    title = "SCEN"
    deletes = True
    paper = "Yao et al., COLM 2024 (arXiv 2404.02699)"
    config_class = SCENConfig
    version = 2

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: SCENConfig, resources: Resources | None = None):
        """Start with an empty bank."""
        super().__init__(lm, ledger, config, resources)
        name = self.projection.weight
        weight = lm.weight(name)
        like = torch.empty((0, self.projection.d_in), dtype=wide(weight.dtype), device=weight.device)
        path = Path(config.bank_directory).expanduser() if config.bank_directory is not None else None
        if config.host_bytes is not None and path is None and not ledger.on_disk:
            raise ValueError("host_bytes limits the experts in memory; set bank_directory for the others")
        load = (lambda blob: self.ledger.load_memory(blob)) if ledger.on_disk else None
        self.bank = ExpertBank(name, like, config.device_bytes, config.host_bytes, path, load)
        self.initial_neurons: Mapping[str, Tensor] = {}
        self._negatives: Tensor | None = None
        self._replacements: dict[str, str] = {}  # by replaced edit
        self._stream: list[EditRequest] = []
        self._places: dict[EditRequest, int] = {}  # in the stream
        self._ahead: dict[EditRequest, TrainedExpert] = {}  # not yet in the bank
        ledger.before_rollback.append(self._roll_back)

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """Note the stream: its experts do not depend on earlier edits, and are trained some ahead of their batch."""
        self._stream = [r for r in requests if self.refusal(r) is None]
        self._places = {request: i for i, request in enumerate(self._stream)}

    @classmethod
    def settled_after(cls, config: SCENConfig, edits: int) -> bool:
        """Whether the last group that is trained together is whole."""
        return edits % config.edits_at_once == 0

    @classmethod
    def room(cls, config: SCENConfig, shape: Shape, work: Workload) -> Room:
        """An expert of every edit; of those that are trained together the gradient and Adam's means, in float32."""
        numbers, inputs = shape.weight(config.layer), shape.inputs(config.layer)
        at_once = min(config.edits_at_once, work.edits)
        resting, step = at_once * numbers * (3 * shape.wide + shape.of_a_number), at_once * numbers * shape.wide
        rank = min(work.row, inputs, shape.width)  # at most
        stores = {"dense": numbers * shape.of_a_number, "quantised": numbers * config.bits // 8 + 4 * shape.width}
        expert = round(stores.get(config.expert_store, 2 * rank * (inputs + shape.width)))
        near = work.edits * expert if config.device_bytes is None else config.device_bytes
        far = max(0, work.edits * expert - near) if config.device_bytes is not None else 0
        passed = shape.training(at_once * work.row, at_once * work.answer, shape.layers - config.layer - 1)
        return Room(
            kept=min(near, work.edits * expert) + 2 * grown(work.edits) * inputs * shape.wide,
            editing=resting + max(step, passed),
            host=far if config.host_bytes is None else min(far, config.host_bytes),
            disk=work.edits * (expert + 2 * inputs * shape.wide + OF_AN_ENTRY),
        )

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Take the experts, trained ahead or now, train neurons, and add them to the bank."""
        trained = self._trained(batch)
        for request in batch:
            if request not in self._places:  # tried again if the edit fails
                self._ahead.pop(request, None)
        if bad := {request.id: t.error for request, t in zip(batch, trained, strict=True) if t.error}:
            raise EditError(list(bad), next(iter(bad.values())), NOT_FINITE)
        own = torch.stack([t.own for t in trained])  # (B, d_ff)
        neurons = self._neurons(batch, own, result)
        experts = []
        for i, (request, t) in enumerate(zip(batch, trained, strict=True)):
            assert t.expert is not None
            expert = Expert(request.id, request.prompt, self.bank.weight, neurons[i], own[i], t.expert)
            experts.append(expert)
            transaction.remember(request.id, expert.tensors(), expert.metadata())
            result.losses[request.id] = t.losses
            facts = {"loss": t.loss, "relative_error": t.relative_error, "store": t.expert.kind}
            _note(result, request, **facts, bytes=t.expert.nbytes)
        transaction.when_kept.append(lambda entry: self._take(batch, experts, entry, result))

    def _take(self, batch: Sequence[EditRequest], experts: list[Expert], entry: EditBatch, result: EditResult) -> None:
        """Add the experts of a batch that is in the ledger to the bank."""
        every = self.bank.extend(experts, entry.memory)
        for request, replaced in zip(batch, every, strict=True):
            self._replacements.pop(request.id, None)
            self._replacements.update(dict.fromkeys(replaced, request.id))
            _note(result, request, replaced=replaced)
            self._ahead.pop(request, None)

    def _trained(self, batch: Sequence[EditRequest]) -> list[TrainedExpert]:
        """The experts of a batch.

        Those of a stream are trained in fixed groups of its requests, whatever its batches and wherever a run resumes,
        so that an expert has the same bits.
        """
        size, missing = self.config.edits_at_once, [r for r in batch if r not in self._ahead]
        loose = [request for request in missing if request not in self._places]
        groups = [loose[start : start + size] for start in range(0, len(loose), size)]
        starts = {self._places[request] // size * size: None for request in missing if request in self._places}
        groups += [self._stream[start : start + size] for start in starts]
        with progress("experts", sum(map(len, groups))) as advance:
            for group in groups:
                self._ahead.update(zip(group, self._train(group), strict=True))
                advance(len(group))
        return [self._ahead[request] for request in batch]

    def _train(self, group: Sequence[EditRequest]) -> list[TrainedExpert]:
        data = ExpertBatch(self.lm, self.config.layer, [self._row(request) for request in group])
        deltas, losses = train_experts(data, self.config.expert_steps, self.config.learning_rate)
        own = neuron_input(data.at_prompt, self.config.cosine)
        sound = all_finite(deltas)
        deltas[[not one for one in sound]] = 0  # no decomposition of NaN
        compressed = compress(data, deltas, self.config)
        restored = torch.stack([expert.delta(deltas.dtype) for expert in compressed])
        fits = all_finite(restored.to(data.inputs.dtype))
        with torch.no_grad():
            after = data.answers(restored)[0].tolist()
        trained = []
        for i, expert in enumerate(compressed):
            overflow = "" if fits[i] else f"the expert overflows in {data.inputs.dtype}"
            error = overflow if sound[i] else "the expert's training loss became NaN or infinite"
            off = float((restored[i] - deltas[i]).norm() / deltas[i].norm())
            trained.append(TrainedExpert(None if error else expert, own[i], losses[i], after[i], off, error))
        return trained

    @torch.no_grad()
    def _neurons(self, batch: Sequence[EditRequest], own: Tensor, result: EditResult) -> Tensor:
        """Neurons (B, d_ff) of a whole batch. An edit's negatives are all before it but those replaced by then."""
        config, bank = self.config, self.bank
        generic = self._generic_inputs()
        until, later = [len(batch)] * len(batch), dict[str, int]()  # places of the edits that replace these
        for j in reversed(range(len(batch))):
            until[j] = later.get(batch[j].prompt, len(batch))
            later[batch[j].prompt] = j
        earlier = [[j < i < end for j, end in enumerate(until)] for i in range(len(batch))]
        before = torch.ones((len(batch), len(generic) + len(bank)), dtype=torch.bool, device=own.device)
        for i, request in enumerate(batch):
            for id in bank.index.replaced_by(request.id, request.prompt):
                before[i:, len(generic) + bank.index.position(id)] = False
        allowed = torch.cat([before, torch.tensor(earlier, device=own.device)], dim=1)  # (B, G + N + B)
        rate = config.neuron_learning_rate or config.learning_rate
        rates = torch.full((len(batch),), rate, dtype=own.dtype, device=own.device)
        if config.lr_after_first is not None:
            rates[0 if len(bank) else 1 :] = config.lr_after_first
        start = [self.initial_neurons.get(r.id, initial_neuron(own.shape[1], self.resources.seed, r.id)) for r in batch]
        others = [generic, bank.inputs, own]
        neurons, losses, activations = train_neurons(
            torch.stack([r.to(own) for r in start]), own, others, allowed, rates, config.neuron_steps, config.hinge
        )
        if bad := [r.id for r, sound in zip(batch, all_finite(neurons), strict=True) if not sound]:
            raise EditError(bad, "the indexing neuron became NaN or infinite", NOT_FINITE)
        for request, losses_of, activation in zip(batch, losses.T.tolist(), activations[-1].tolist(), strict=True):
            _note(result, request, neuron_losses=losses_of, activation=activation)
        return neurons

    def _generic_inputs(self) -> Tensor:
        """(G, d_ff) inputs of the neurons for ``config.negatives``: base weights never change."""
        if self._negatives is None:
            self._negatives = self.inputs([self.resources.prompt_format.apply(p) for p in self.config.negatives])
        return self._negatives

    def inputs(self, texts: Sequence[str]) -> Tensor:
        """(B, d_ff) inputs of the neurons at the last token of each text, given in its prompt format.

        A text too long for the model loses its beginning but for the BOS, as in the evaluation.
        """
        return neuron_input(self.inputs_at_ends(texts), self.config.cosine)

    def _row(self, request: EditRequest) -> tuple[list[int], list[int]]:
        return self.lm.encode(request.prompt).ids, target_ids(self.lm, request, self.config.train_eos)

    def for_texts(self) -> SCEN:
        """This editor with ``theta_texts`` for θ, where there is one; the bank is the same."""
        if self.config.theta_texts is None:
            return self
        view = copy(self)
        view.config = replace(self.config, theta=self.config.theta_texts)
        return view

    def activations(self, prompts: Sequence[str]) -> Tensor:
        """(B, N) activation of each neuron at the last token of each prompt, given in its format."""
        return (self.inputs(prompts) @ self.bank.neurons.T).sigmoid()

    def route(self, prompts: Sequence[str]) -> list[Route]:
        """The expert that answers each prompt, and the largest activation of any neuron."""
        if not len(self.bank):
            return [Route(None, 0.0)] * len(prompts)
        return [Route(self._fires(*winner), winner[1]) for winner in self._winners(self.inputs(prompts))]

    def _winners(self, x: Tensor) -> list[tuple[int, float]]:
        """Neuron with the largest activation on each input (B, d_ff), and that activation."""
        product, winner = self.bank.index.best(x)  # before the sigmoid: many activations round to 1
        return list(zip(winner.tolist(), product.sigmoid().tolist(), strict=True))

    def _fires(self, winner: int, activation: float) -> str | None:
        return self.bank.ids[winner] if activation > self.config.theta else None

    def choose(self, prompts: Prompts) -> DeltaAnswers:
        """The experts of a batch of prompts."""
        return self._routing(prompts.last)

    @property
    def empty(self) -> bool:
        """Whether the bank is."""
        return not len(self.bank)

    def _routing(self, x: Tensor) -> DeltaAnswers:
        """The experts for inputs x (B, d_ff): where the largest activation exceeds θ."""
        while len(self.bank):
            of = [self._fires(*w) for w in self._winners(neuron_input(x, self.config.cosine).to(self.bank.neurons))]
            experts = {id: self.bank.fetch(id) for id in dict.fromkeys(of) if id is not None}
            sound = {id: expert for id, expert in experts.items() if expert is not None}
            if len(sound) == len(experts):  # else a damaged expert has left the bank: choose among the others
                return DeltaAnswers(of, [sound])
        return DeltaAnswers([None] * len(x), [{}])

    def delete(self, id: str) -> None:
        """Undo one edit; a ValueError if there is none."""
        if id in self.ledger.edited_ids and self._replacement(id) != id:  # a newer one has replaced its expert
            self.ledger.forget_id(id)
            return
        self.bank.delete(id)
        for gone in (id, *(older for older in self._replacements if self._replacement(older) == id)):
            self.ledger.forget_id(gone)

    def _roll_back(self, keep: int) -> None:
        """Bring the bank to that after ``keep`` batches; a ValueError if an expert has left it and no ledger has it."""
        stay = [i for entry in self._batches(0, keep) for i in entry.ids_after(keep)]
        gone = {i for entry in self._batches(keep, None) for i in entry.ids}
        known = {*self.bank.ids, *self.bank.lost}
        latest = {id: self._replacement(id) for id in stay}
        missing = next((id for id, now in latest.items() if now in gone or now not in known), None)
        if missing is not None and not self._all_in_ledger:
            raise ValueError(
                f"scen: cannot go back to edit {missing!r}: one that came later replaced its expert, or it was deleted"
            )
        if missing is not None:
            self._recall(keep)
        for id in gone:
            if id in self.bank.index:
                self.bank.delete(id)

    def _batches(self, start: int, end: int | None) -> list[EditBatch]:
        """This method's batches in a part of the ledger."""
        return [entry for entry in self.ledger.entries[start:end] if entry.of(type(self).__name__)]

    def _replacement(self, id: str) -> str:
        """The edit that replaced ``id`` last, or ``id`` itself."""
        while id in self._replacements and self._replacements[id] != id:
            id = self._replacements[id]
        return id

    def footprint(self) -> Footprint:
        """Experts, neurons and their inputs; on disk those in ``bank_directory``, or beyond the memories."""
        negatives = [self._generic_inputs()] if len(self.bank) else []  # a resumed run has none yet
        return Footprint.of([*self.bank.tensors(), *negatives], self.bank.disk_bytes)

    def state(self) -> dict[str, Tensor]:
        """The whole bank."""
        return self.bank.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Replace the bank by that of ``state``; a DamagedFile if an expert is not the one that the ledger sealed."""
        self.bank.restore(state, dict(self._kept(len(self.ledger))))

    def state_beside_ledger(self) -> dict[str, Tensor]:
        """Nothing, since each batch's experts are in the ledger; the whole bank if some are not."""
        return {} if self._all_in_ledger else self.bank.state()

    def recall(self, rest: Mapping[str, Tensor]) -> None:
        """Replace the bank by the ledger's experts, or by that of ``rest``, which then has all."""
        if rest:
            self.restore(rest)
        else:
            self._recall(len(self.ledger))

    @property
    def _all_in_ledger(self) -> bool:
        return len(self.bank.stored) == len(self.bank)

    def _recall(self, keep: int) -> None:
        """Fill the bank by the first ``keep`` batches of the ledger; of those replaced since, only the prompt."""
        kept = self._kept(keep)
        known = self.ledger.memory_metadata(blob for _, blob in kept)
        names = [(id, str(metadata.get("prompt"))) for (id, _), metadata in zip(kept, known, strict=True)]
        places, self._replacements = standing(names)
        blobs = [kept[place][1] for place in places]
        self.bank.refill(((self.bank.load_stored(blob), blob) for blob in blobs), dict(kept))

    def _kept(self, keep: int) -> list[tuple[str, Blob]]:
        """Ids and places of the experts in the first ``keep`` batches of the ledger, in order."""
        entries = [(set(entry.ids_after(keep)), entry) for entry in self._batches(0, keep)]
        return [(id, blob) for ids, entry in entries for id, blob in entry.memory.items() if id in ids]


def _note(result: EditResult, request: EditRequest, **facts: Any) -> None:
    result.details.setdefault("edits", {}).setdefault(request.id, {}).update(facts)
