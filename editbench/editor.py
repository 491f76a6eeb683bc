"""The interface that every editing method implements."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, final

from editbench.datasets.given import as_requests
from editbench.ledger import Ledger, LedgerError, NotFiniteError, Transaction
from editbench.model.held_dtype import hold
from editbench.model.likelihood import Query, score_targets
from editbench.records import NOT_FINITE, Editable, EditError, EditRequest, Route, Routing
from editbench.resources import Resources
from editbench.room import Room, Workload

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.model.language_model import LanguageModel
    from editbench.model.shape import Shape

C = TypeVar("C")


@dataclass(frozen=True)
class Capabilities:
    """Requests that a method can edit, and what it needs for that with its default settings."""

    needs_subject: bool = False  # requests without a subject are refused, and not scored as failures
    needs_covariance: bool = False  # of the edited layers' inputs: from ``model.texts``, or ``model.covariance``
    needs_training: bool = False  # records to learn from before the first edit, or networks trained on them
    max_batch: int | None = None  # largest number of requests edited at once; larger batches are cut. None for any

    @property
    def needs(self) -> list[str]:
        """Words for the needs: "subject", "covariance", "training"."""
        return [name.removeprefix("needs_") for name, needed in vars(self).items() if needed is True]


@dataclass
class EditResult:
    """Outcome of one call of :meth:`Editor.edit`."""

    applied: list[str] = field(default_factory=list)  # ids of the requests that are now in the model
    skipped: dict[str, str] = field(default_factory=dict)  # reasons for the others, by id ("unsupported: …", or others)
    seconds: float = 0.0
    losses: dict[str, list[float]] = field(default_factory=dict, repr=False)  # training loss at each step, by id
    details: dict[str, Any] = field(default_factory=dict, repr=False)  # facts for the run's record, as JSON values
    ask: Callable[[], dict[str, bool]] = field(default=dict, repr=False, compare=False)  # what :attr:`holds` asks

    @cached_property
    def holds(self) -> dict[str, bool]:
        """Whether the model gives a request's target now, token for token after its prompt; by id, the skipped too.

        The model is asked when this is first read.
        """
        return self.ask()


@dataclass(frozen=True)
class Footprint:
    """Bytes that a method keeps besides the model: on accelerators, in host memory and on disk."""

    device: int = 0
    host: int = 0
    disk: int = 0

    @classmethod
    def of(cls, tensors: Iterable[Tensor], disk: int = 0) -> Footprint:
        """Bytes of tensors by their devices."""
        sizes = [(tensor.device.type == "cpu", tensor.numel() * tensor.element_size()) for tensor in tensors]
        host = sum(size for on_cpu, size in sizes if on_cpu)
        return cls(sum(size for _, size in sizes) - host, host, disk)


def layers_of(config: object) -> list[int]:
    """The layers that a method's settings name."""
    one, several = getattr(config, "layer", None), getattr(config, "layers", None)
    return [*([one] if isinstance(one, int) else []), *(several if isinstance(several, (list, tuple)) else [])]


def _of_one_or_several(route: Callable[..., list[Route] | None]) -> Callable[..., list[Route] | None]:
    """A method ``route`` of several prompts that takes one, too."""

    @wraps(route)
    def taking_one(self: Editor[Any], prompts: str | Sequence[str]) -> list[Route] | None:
        return route(self, [prompts] if isinstance(prompts, str) else prompts)

    return taking_one


class Editor(ABC, Generic[C]):
    """An editing method with its language model, ledger, settings and resources.

    A subclass sets the class attributes and implements :meth:`write`. Editors never see probes.

    A request's prompt is the text that the model gets, and its target the text that is scored after it: a method adds
    no format around the prompt and no separator before the target. A method that trains the closing EOS token has the
    setting ``train_eos``.
    """

    title: ClassVar[str] = ""  # in tables
    paper: ClassVar[str] = ""  # authors, venue and year
    kind: ClassVar[Literal["weights", "memory", "prompt", "none"]] = "weights"
    """Place of the edits; "memory" is beside the weights, "prompt" before the prompt."""
    config_class: ClassVar[type]
    capabilities: ClassVar[Capabilities] = Capabilities()
    deletes: ClassVar[bool] = False  # whether ``delete(id)`` takes one edit out of the method's memory
    version: ClassVar[int] = 1  # of the method's own formula; runs of different versions are not averaged

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: C, resources: Resources | None = None) -> None:
        """Keep the parts. A ValueError if ``config.train_eos`` is set and the tokenizer has no EOS token."""
        if getattr(config, "train_eos", False) and lm.tokenizer.eos_token_id is None:
            raise ValueError(f"train_eos is set, but the tokenizer of {lm.name} has no EOS token; set it to false")
        self.lm = lm
        self.ledger = ledger
        self.config = config
        self.resources = resources or Resources()
        for layer in self.layers():  # what cannot be edited is refused now
            lm.layer(layer) if self.kind == "prompt" else lm.check_editable(layer)
        if lm.edited_dtype is not None:
            hold(lm, self.edited_weights())

    def __init_subclass__(cls, **options: Any) -> None:
        """Let a subclass's :meth:`route` take a text as one prompt: it would look up each of its letters."""
        super().__init_subclass__(**options)
        if (route := vars(cls).get("route")) is not None:
            cls.route = _of_one_or_several(route)  # type: ignore[method-assign]

    # -- for subclasses -------------------------------------------------------------------------------------------

    def layers(self) -> list[int]:
        """Layers that the config names; one that the model does not have is refused before the first edit."""
        return layers_of(self.config)

    def edited_weights(self) -> list[str]:
        """Names of the weights of linear modules that edits are added to; ``model.edited_dtype`` holds them.

        By default the second projections of the config's layers; none for a method that edits beside the weights.
        """
        return [self.lm.mlp_out_name(layer) for layer in self.layers()] if self.kind == "weights" else []

    @abstractmethod
    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Compute the changes for a batch, apply them to the transaction, and add losses and details to the result.

        Raise an EditError if the edit cannot be made (NaN, out of range, …); the base class restores the model.
        """

    def conclude(self, transaction: Transaction, result: EditResult) -> None:
        """Change the model once more after the last edit of a stream (PRUNE); details go to the result."""

    @classmethod
    def prepares(cls, config: C) -> bool:
        """Whether :meth:`prepare` has something to compute with these settings."""
        return cls.prepare is not Editor.prepare

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """Compute what is needed before the first edit; ``requests`` are those of the whole stream."""

    def train(self, out: str | Path | None = None) -> Path:
        """Train what the method learns from ``resources.training_records``, or go on after a stop; the file of it.

        ``out`` is another place than the cache. A ValueError if the method has nothing to train.
        """
        raise ValueError(f"{type(self).__name__} has nothing to train")

    @classmethod
    def room(cls, config: C, shape: Shape, work: Workload) -> Room:
        """Memory and disk that a run takes beside the model, for ``editbench plan``; nothing is loaded for it."""
        return Room()

    @classmethod
    def settled_after(cls, config: C, edits: int) -> bool:
        """Whether the first ``edits`` edits of a stream have the same bits whatever edits follow them.

        Only then may a longer run take them over. False where a group of requests is computed together.
        """
        return True

    def rows(self, request: EditRequest) -> Sequence[Sequence[int]]:
        """Token ids of the rows that the method runs besides prompt and answer; too long ones are refused."""
        return ()

    def answering(self, last_prompt_columns: Sequence[int]) -> AbstractContextManager[Routing | None]:
        """Context manager around any forward pass or generation on the edited model.

        It yields the routing, which after the first forward pass names the edit that answers each prompt; None for
        methods that change weights which all prompts share. ``last_prompt_columns`` are the columns of the last prompt
        token, one for each row of the batch.
        """
        return nullcontext()

    @property
    def answers_by_row(self) -> bool:
        """Whether :meth:`answering` does something, and so needs each prompt in a row of its own."""
        return type(self).answering is not Editor.answering

    def transform_prompt(self, prompt: str) -> str:
        """The plain prompt with text before it, for in-context and retrieval editing; it must end with ``prompt``."""
        return prompt

    def for_texts(self) -> Editor[C]:
        """The editor that scores text collections: ``self``, unless the method has other settings for texts."""
        return self

    def route(self, prompts: Sequence[str]) -> list[Route] | None:
        """The edit that answers each prompt, given in its format; None where all prompts share all edits.

        For callers, one prompt may be a text, as for :meth:`generate`; a subclass's own is given several.
        """
        return None

    def footprint(self) -> Footprint:
        """Bytes that the method keeps now."""
        return Footprint()

    def state(self) -> dict[str, Tensor]:
        """The method's own memory (NSE's keys of earlier edits, SCEN's bank), enough for :meth:`restore`."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Replace the memory by one saved by :meth:`state`; a ValueError for another method's."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, but was given {sorted(state)}")

    def state_beside_ledger(self) -> dict[str, Tensor]:
        """The part of :meth:`state` that :meth:`recall` does not find in the ledger: each checkpoint saves it anew.

        A method whose memory grows with every edit hands each batch's part to :meth:`Transaction.remember`, which
        writes it once, and keeps this small.
        """
        return self.state()

    def recall(self, rest: Mapping[str, Tensor]) -> None:
        """Replace the memory by that of the ledger's batches and ``rest``, saved by :meth:`state_beside_ledger`."""
        self.restore(rest)

    # -- for callers ----------------------------------------------------------------------------------------------

    @final
    def asked(self, prompt: str) -> str:
        """The text that the edited model gets for a prompt: transformed inside the prompt format.

        A ValueError if the transformed prompt does not end with the plain one.
        """
        return self.resources.prompt_format.transform(prompt, self._transformed)

    def _transformed(self, plain: str) -> str:
        text = self.transform_prompt(plain)
        if not text.endswith(plain):
            raise ValueError(
                f"{type(self).__name__}.transform_prompt made {text!r} of {plain!r}; it must end with the prompt"
            )
        return text

    def edit(self, batch: Editable | Iterable[Editable]) -> EditResult:
        """Write a batch into the model; requests that the method cannot handle are skipped with a reason.

        A batch is a request, a record or a dictionary of its fields, those of custom records, or several of them.
        Dictionaries without an id get the next numbers that are no edit's. A RecordError if one cannot be used, an
        EditError if the edit failed; the model and the ledger are then as they were.
        """
        begun = time.perf_counter()
        batch = as_requests(batch, self.ledger.unused_ids())
        refusals = {request.id: reason for request in batch if (reason := self.refusal(request)) is not None}
        result, wanted = EditResult(skipped=refusals), [request for request in batch if request.id not in refusals]
        size = self.capabilities.max_batch or max(1, len(wanted))
        part = wanted
        try:
            with self.ledger.transaction([r.id for r in wanted], by=type(self).__name__) as transaction:
                for start in range(0, len(wanted), size):
                    part = wanted[start : start + size]
                    self.write(part, transaction, result)
                part = wanted
        except LedgerError as error:  # only the requests of the part that is written have failed
            kind = NOT_FINITE if isinstance(error, NotFiniteError) else ""
            raise EditError([r.id for r in part], str(error), kind) from error
        result.applied = [r.id for r in wanted if r.id not in result.skipped]
        result.seconds = time.perf_counter() - begun
        result.ask = partial(self._holds, batch)
        return result

    def delete(self, id: str) -> None:
        """Undo one edit, of methods that can (:attr:`deletes`); a ValueError if there is none.

        A NotImplementedError of other methods.
        """
        raise NotImplementedError(
            f"{type(self).__name__} cannot delete one edit; editor.ledger.rollback(keep) takes back all batches after "
            "the first keep"
        )

    @property
    def concludes(self) -> bool:
        """Whether :meth:`conclude` does something: :meth:`finish` then adds a batch without ids to the ledger."""
        return type(self).conclude is not Editor.conclude

    def finish(self) -> EditResult:
        """End a stream of edits; a LedgerError if that failed, and the model is as it was."""
        begun, result = time.perf_counter(), EditResult()
        if self.concludes:
            with self.ledger.transaction([], by=type(self).__name__) as transaction:
                self.conclude(transaction, result)
        result.seconds = time.perf_counter() - begun
        return result

    def _holds(self, batch: Sequence[EditRequest]) -> dict[str, bool]:
        asked = {r.id: Query(r.prompt, (r.target,)) for r in batch if self.lm.unaskable(r.prompt, r.target) is None}
        scores = score_targets(self.lm, list(asked.values()), editor=self)
        found = {id: all(score.correct) for id, (score,) in zip(asked, scores, strict=True)}
        return {request.id: found.get(request.id, False) for request in batch}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.lm.name}: {len(self.ledger)} batches edited>"

    def generate(self, prompts: str | Sequence[str], **options: Any) -> list[str]:
        """Continuations by the edited model of prompts in their prompt format, for every kind of method.

        Options are those of :meth:`editbench.model.language_model.LanguageModel.generate`.
        """
        texts = [self.asked(prompt) for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
        if not texts:
            return []
        width = max(len(self.lm.encode(text).ids) for text in texts)  # rows are padded on the left
        with self.answering([width - 1] * len(texts)):
            return self.lm.generate(texts, **options)

    def refusal(self, request: EditRequest) -> str | None:
        """Reason why a request cannot be edited, or None.

        Every method refuses a request whose prompt and answers are too long for the model, or whose answers or subject
        it has no tokens for, also one that could edit it, so that all methods are compared on the same records.
        """
        if self.capabilities.needs_subject and request.subject is None:
            return f"unsupported: {type(self).__name__} needs a subject, and the record has none"
        reason = self.lm.unaskable(request.prompt, *filter(None, (request.target, request.target_true)))
        if reason is None and request.subject is not None:
            reason = self.lm.unwritable_subject(request.subject)
        if reason is not None:
            return f"unsupported: {reason}"
        longest = max(map(len, self.rows(request)), default=0)
        if longest > self.lm.max_length:
            return (
                f"unsupported: the longest row of {type(self).__name__}, with what it puts around the prompt, takes "
                f"{longest} tokens, {self.lm.name} has {self.lm.max_length}"
            )
        return None


def edit_possible(
    edit: Callable[[Sequence[EditRequest]], EditResult], requests: Iterable[EditRequest]
) -> tuple[EditResult, dict[str, str]]:
    """Edit a batch, again without requests whose edit fails; the result, and the reasons of failed edits by id."""
    wanted, failed = list(requests), dict[str, str]()
    while wanted:
        try:
            return edit(wanted), failed
        except EditError as error:
            reason = ": ".join(filter(None, (error.kind, error.reason)))
            failed.update(dict.fromkeys(error.ids, reason))
            remaining = [r for r in wanted if r.id not in error.ids]
            if len(remaining) == len(wanted):
                raise
            wanted = remaining
    return EditResult(), failed
