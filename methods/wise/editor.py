"""WISE: Rethinking the Knowledge Memory for Lifelong Model Editing (Wang et al., NeurIPS 2024).

Edits change copies of one weight, the side memories, in random shares of its numbers. A prompt on whose tokens a
memory's outputs are far enough from the weight's own is answered by that memory. The weight itself never changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from editbench.editor import EditResult, Footprint
from editbench.locate_then_edit.prompts import target_ids
from editbench.locate_then_edit.templates import templates_for
from editbench.memory_based.delta_answers import DeltaAnswers
from editbench.memory_based.editor import ROWS_AT_ONCE
from editbench.memory_based.irrelevant import IrrelevantPrompts
from editbench.memory_based.journal import Entry, JournalledEditor
from editbench.memory_based.target_rows import base_pass, wide
from editbench.model.token_tree import TokenTree
from editbench.progress import progress
from editbench.records import NOT_FINITE, EditError, EditRequest, Route
from editbench.room import Room

from .config import DENSE, MERGE, SOUND, WISEConfig
from .memories import Memories
from .routing import chosen, route
from .rows import EditRows, PublishedRows, Row
from .scores import activation_of, own_outputs, row_means, token_scores
from .training import Trained, train_memory

if TYPE_CHECKING:
    from editbench.ledger import Ledger, Transaction
    from editbench.memory_based.routing import Prompts
    from editbench.model.language_model import LanguageModel
    from editbench.model.shape import Shape
    from editbench.resources import Resources
    from editbench.room import Workload

TEMPLATES = [(start, tokens, 1) for tokens in (5, 10) for start in ("I", "You", "Because", "Yes", "Q: ")]

STEP, BETWEEN = 8, 2
"""Copies of the weight beside a memory: in a step of the descent, and while the model runs."""


class WISE(JournalledEditor[WISEConfig]):
    """Trains side memories edit by edit.

    Attributes:
        templates: Contexts of an edit's rows, made when they are first needed.
        given_masks: Masks (d_out, d_in) by number of the shard; others are drawn from the seed.
        given_irrelevant: Irrelevant prompts by edit id; others are drawn.
    """

    title = "WISE"
    deletes = False  # a memory has numbers of several edits
    paper = "Wang et al., NeurIPS 2024 (arXiv 2405.14768)"
    config_class = WISEConfig
    version = 2

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: WISEConfig, resources: Resources | None = None):
        """Start without memories."""
        super().__init__(lm, ledger, config, resources)
        self.memories = Memories()
        self.templates = self.resources.templates
        self.given_masks: Mapping[int, Tensor] = {}
        self.given_irrelevant: Mapping[str, str] = {}
        self._activation = activation_of(lm) if config.activation else None
        self._mask: tuple[int, Tensor] | None = None  # of the open shard, by number
        self.irrelevant = IrrelevantPrompts(lm, self.resources, config)

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """Make the templates: by the unedited model, as everything is here."""
        self.templates = templates_for(self.lm, self.templates, TEMPLATES, self.resources.seed)

    def rows(self, request: EditRequest) -> list[list[int]]:
        """The rows with the answer."""
        return [[*prompt, *answer[:-1]] for prompt, answer in self._answer_rows(request)]

    def _answer_rows(self, request: EditRequest) -> list[Row]:
        self.prepare([])
        answer = target_ids(self.lm, request, self.config.train_eos)
        assert self.templates is not None
        return [(self.lm.encode(t.replace("{}", request.prompt)).ids, answer) for t in self.templates]

    # -- editing ------------------------------------------------------------------------------------------------------

    @classmethod
    def room(cls, config: WISEConfig, shape: Shape, work: Workload) -> Room:
        """The memories and the mask; a weight in training, in float32; an edit's rows through the layers above."""
        into, out = shape.projection(config.layer, config.projection)
        numbers, templates = into * out, work.contexts([1 + tokens for _, tokens, _ in TEMPLATES])
        weight, rows = numbers * shape.wide, 1 + len(templates)
        tokens = rows * work.row + sum(templates) + config.irrelevant_tokens
        passed = shape.training(tokens, rows * work.answer, shape.layers - config.layer - 1)
        whole = config.memory_store == DENSE
        memory = weight if whole else round(config.mask_ratio * weight) + numbers // 8
        merged = config.merge_every // config.save_every if config.variant == MERGE else 1
        memories = 1 + work.edits // (config.save_every * merged)
        wide = weight if shape.of_a_number < shape.wide else 0  # the weight itself, in float32
        return Room(
            kept=memories * memory + numbers + weight,  # and a memory as it answers
            editing=max(wide + STEP * weight, wide + BETWEEN * weight + passed),
            disk=work.batches * memory,
        )

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Train the side memory on one request after the other."""
        memories = self.memories
        base = self._base
        with progress("side memory", len(batch)) as advance:
            for request in batch:
                number = memories.count // self.config.save_every
                delta = None if memories.open is None else memories.open.delta.delta(base.dtype)
                start = base if delta is None else base + delta
                trained = self._train(request, base, start, self._mask_of(number))
                memories = memories.with_edit(request.id, trained.weight - base, trained.score, self.config)
                result.losses[request.id] = [sum(pair) for pair in trained.losses]
                facts = {"shard": number, "score": trained.score, "answer_loss": trained.losses[-1][0]}
                result.details.setdefault("edits", {})[request.id] = facts
                advance()
        result.details["memories"] = [{"edits": len(one.edits), "bytes": one.delta.nbytes} for one in memories.all]
        self.keep(transaction, [memories.entry(self.memories.all)])

    @property
    def _base(self) -> Tensor:
        weight = self.lm.weight(self.projection.weight)
        return weight.to(wide(weight.dtype))

    def _train(self, request: EditRequest, base: Tensor, start: Tensor, mask: Tensor) -> Trained:
        kind = EditRows if self.config.rules == SOUND else PublishedRows
        rows = kind(self.lm, self.projection, self._answer_rows(request), self._irrelevant_ids(request))
        trained = train_memory(self.projection, rows, base, start, mask, self.config, self._activation)
        if not bool(trained.weight.isfinite().all()):
            raise EditError([request.id], "the side memory became NaN or infinite", NOT_FINITE)
        return trained

    def _mask_of(self, number: int) -> Tensor:
        """(d_out, d_in) bool: the numbers that a shard may change."""
        if self._mask is None or self._mask[0] != number:
            shape = self.projection.d_out, self.projection.d_in
            mask = self.given_masks.get(number)
            if mask is None:
                generator = _generator(f"{self.resources.seed}:mask {number}")
                mask = torch.rand(shape, generator=generator) < self.config.mask_ratio
            self._mask = number, mask.to(self.lm.weight(self.projection.weight).device, torch.bool)
        return self._mask[1]

    def _irrelevant_ids(self, request: EditRequest) -> list[int]:
        """Token ids of an irrelevant prompt, drawn by seed and id of the edit."""
        if request.id in self.given_irrelevant:
            return self.lm.encode(self.given_irrelevant[request.id]).ids
        return self.irrelevant.drawn(request.id)[0]

    # -- the memory ---------------------------------------------------------------------------------------------------

    @property
    def held(self) -> set[str]:
        """Ids of the edits in all memories."""
        return {id for memory in self.memories.all for id in memory.edits}

    def take(self, entry: Entry) -> None:
        """Go on to the memories of an entry."""
        self.memories = self.memories.after(entry, self._device)

    def drop(self, id: str) -> None:
        """Refuse: a memory's numbers are of all its edits."""
        raise ValueError(
            f"wise cannot delete edit {id!r} alone: a memory has numbers of several; ledger.rollback takes the last "
            "ones back"
        )

    def clear(self) -> None:
        """Remove all memories."""
        self.memories = Memories()

    def state(self) -> dict[str, Tensor]:
        """All memories."""
        return self.memories.state()

    def fill(self, state: Mapping[str, Tensor]) -> None:
        """Replace the memories by those of ``state``."""
        self.memories = Memories.of_state(state, self.projection, self._device)

    @property
    def _device(self) -> torch.device:
        return self.lm.weight(self.projection.weight).device

    def footprint(self) -> Footprint:
        """Memories, and the mask of the last edit's shard."""
        count = self.memories.count
        mask = [self._mask_of((count - 1) // self.config.save_every)] if count else []
        return Footprint.of([*self.memories.tensors(), *mask])

    # -- answering ----------------------------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Whether there are no memories."""
        return not self.memories.all

    def choose(self, prompts: Prompts) -> DeltaAnswers:
        """The memories that answer, by name, as the prompts' own tokens score."""
        memories, tokens = self.memories.all, prompts.tokens
        row_of, column = tokens.nonzero(as_tuple=True)
        found = self._chosen(prompts.seen[row_of, column], row_of, len(prompts.seen))
        names = [None if place < 0 else memories[place].name for place, _ in found]
        return DeltaAnswers(names, [{memory.name: memory.delta for memory in memories}])

    def _chosen(self, x: Tensor, row_of: Tensor, rows: int) -> list[tuple[int, float]]:
        """For each row (B) of tokens with inputs x (P, d_in): what :func:`.routing.chosen` gives."""
        memories, opened = self.memories.all, self.memories.open is not None
        return chosen(memories, self.scores(x, row_of, rows), opened, self.config)

    @torch.no_grad()
    def scores(self, x: Tensor, row_of: Tensor, rows: int) -> Tensor:
        """(B, K) mean score of each memory on the tokens of each row."""
        counted, columns = torch.ones_like(row_of, dtype=torch.bool), []
        own = own_outputs(self.projection, x, self._activation)
        for memory in self.memories.all:
            delta = memory.delta.delta(wide(x.dtype))
            added = x.to(delta.dtype) @ delta.T
            columns.append(row_means(token_scores(own, added, self._activation), row_of, counted, rows))
        return torch.stack(columns, dim=1)

    def route(self, prompts: Sequence[str]) -> list[Route]:
        """The memory that answers each prompt, by its first edit, and the largest score over its threshold."""
        if self.empty:
            return [Route(None, 0.0)] * len(prompts)
        rows, memories = [self.fitted(self.lm.encode(prompt).ids) for prompt in prompts], self.memories.all
        found = []
        for start in range(0, len(rows), ROWS_AT_ONCE):
            tree = TokenTree.of(self.lm, rows[start : start + ROWS_AT_ONCE], share=False)
            x = base_pass(self.lm, self.projection, tree)[1]
            row_of = torch.tensor([i for i, path in enumerate(tree.paths) for _ in path], device=x.device)
            found += [route(memories, *one) for one in self._chosen(x, row_of, len(tree.paths))]
        return found


def _generator(name: str) -> torch.Generator:
    digest = hashlib.blake2b(name.encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
