"""The interface that every editing method implements."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from editbench.ledger import Ledger, LedgerError, NotFiniteError, Transaction
from editbench.records import NOT_FINITE, EditError
from editbench.resources import Resources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from editbench.model.language_model import LanguageModel
    from editbench.records import EditRequest, Route, Routing


C = TypeVar("C")


@dataclass(frozen=True)
class Capabilities:
    """What a method can do.

    Attributes:
        needs_subject: Requests without a subject are refused, with the reason, and not scored as failures.
        max_batch: Largest number of requests that it edits at once; None for any. Larger batches are cut.
        changes: "weights", "modules" (something is added beside the weights) or "nothing".
    """

    needs_subject: bool = False
    max_batch: int | None = None
    changes: str = "weights"


@dataclass
class EditResult:
    """What one call of :meth:`Editor.edit` did.

    Attributes:
        applied: Ids of the requests that are now in the model.
        skipped: Why the others are not, by id ("unsupported: …", or the method's own reason).
        seconds: Wall time.
        losses: Per id, the training loss at each step, where the method has one.
        details: Anything else worth keeping in the run's record (JSON types).
    """

    applied: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    losses: dict[str, list[float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Footprint:
    """Bytes that a method keeps besides the model."""

    device: int = 0
    host: int = 0
    disk: int = 0


class Editor(ABC, Generic[C]):
    """A knowledge-editing method at work on one lm.

    A subclass sets :attr:`config_class` and :attr:`capabilities` and implements :meth:`write`. It never sees probes.

    A request's prompt is what the model will be asked, to the letter, and its target what will be scored behind it: a
    method puts no format around the one and no separator before the other. One that trains the closing EOS token says
    so by the setting ``train_eos``.
    """

    config_class: ClassVar[type]
    capabilities: ClassVar[Capabilities] = Capabilities()
    version: ClassVar[int] = 1
    """Another number for another formula: runs of two versions are not averaged. What methods share has its own."""

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: C, resources: Resources | None = None) -> None:
        """Take the parts.

        Raises:
            ValueError: ``config.train_eos`` is set, and the tokenizer has no EOS token.
        """
        if getattr(config, "train_eos", False) and lm.tokenizer.eos_token_id is None:
            raise ValueError(f"train_eos is set, but the tokenizer of {lm.name} has no EOS token; set it to false")
        self.lm = lm
        self.ledger = ledger
        self.config = config
        self.resources = resources or Resources()

    # -- for subclasses -------------------------------------------------------------------------------------------

    @abstractmethod
    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Compute the changes for ``batch`` and hand them to ``recording``; fill in losses and details.

        Raises:
            EditError: The edit cannot be made (NaN, out of range, …); the base class leaves the model as it was.
        """

    def prepare(self, requests: Sequence[EditRequest]) -> None:
        """See the requests that are to come, before the first edit. Optional."""
        return None

    def rows(self, request: EditRequest) -> Sequence[Sequence[int]]:
        """Token ids of the rows that the method runs besides prompt and answer, so that too long ones are refused."""
        return ()

    def answering(self, last_prompt_columns: Sequence[int]) -> AbstractContextManager[Routing | None]:
        """Context manager around any forward pass or generation on the edited model.

        It gives what tells, after the first forward pass, which edit answers each prompt; None for methods that change
        weights which all prompts share.

        Args:
            last_prompt_columns: For each row of the batch, the column of its last prompt token.
        """
        return nullcontext()

    def for_texts(self) -> Editor[C]:
        """The editor through which text collections are scored: this one, unless the method treats texts otherwise."""
        return self

    def route(self, prompts: Sequence[str]) -> list[Route] | None:
        """Which edit answers each prompt, given as the model sees it; None for methods that change what all share."""
        return None

    def footprint(self) -> Footprint:
        """Bytes that the method keeps now."""
        return Footprint()

    def state(self) -> dict[str, Tensor]:
        """The method's own memory (NSE's keys of earlier edits, SCEN's bank), enough for :meth:`restore`."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a memory saved by :meth:`state`.

        Raises:
            ValueError: It is not this method's.
        """
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, but was given {sorted(state)}")

    # -- for callers ----------------------------------------------------------------------------------------------

    def asked(self, prompt: str) -> str:
        """The text that the edited model gets for ``prompt``."""
        return prompt

    def edit(self, batch: Sequence[EditRequest]) -> EditResult:
        """Write ``batch`` into the model.

        Requests that the method cannot handle are skipped with a reason.

        Raises:
            EditError: The edit failed; the model and the ledger are as they were.
        """
        begun = time.perf_counter()
        result = EditResult()
        wanted = []
        for request in batch:
            reason = self.refusal(request)
            if reason is None:
                wanted.append(request)
            else:
                result.skipped[request.id] = reason
        size = self.capabilities.max_batch or max(1, len(wanted))
        with self._one_entry(wanted) as transaction:
            for start in range(0, len(wanted), size):
                part = wanted[start : start + size]
                try:
                    self.write(part, transaction, result)
                except LedgerError as error:  # the others of the batch are not to blame
                    raise _failed(part, error) from error
        result.applied = [r.id for r in wanted if r.id not in result.skipped]
        result.seconds = time.perf_counter() - begun
        return result

    def generate(self, prompts: str | Sequence[str], **options: Any) -> list[str]:
        """Continuations by the edited model; options as in
        :meth:`editbench.model.language_model.LanguageModel.generate`.

        Right for every method, also those that answer through something beside the weights.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        width = max(len(self.lm.encode(text).ids) for text in texts)  # rows are padded on the left
        with self.answering([width - 1] * len(texts)):
            return self.lm.generate(texts, **options)

    def refusal(self, request: EditRequest) -> str | None:
        """Why this method cannot edit ``request``, or None if it can.

        One whose prompt and answers the model cannot take is refused by every method, also by one that could edit it,
        so that all are compared on the same records.
        """
        if self.capabilities.needs_subject and request.subject is None:
            return f"unsupported: {type(self).__name__} needs a subject, and the record has none"
        try:
            reason = self.lm.too_long(request.prompt, *filter(None, (request.target, request.target_true)))
        except ValueError as error:  # an answer that cannot be tokenised
            reason = str(error)
        if reason is not None:
            return f"unsupported: {reason}"
        longest = max(map(len, self.rows(request)), default=0)
        if longest > self.lm.max_length:
            return (
                f"unsupported: the longest row of {type(self).__name__}, with what it puts around the prompt, takes "
                f"{longest} tokens, {self.lm.name} has {self.lm.max_length}"
            )
        return None

    @contextmanager
    def _one_entry(self, wanted: Sequence[EditRequest]) -> Iterator[Transaction]:
        try:
            with self.ledger.transaction([r.id for r in wanted]) as transaction:
                yield transaction
        except LedgerError as error:
            raise _failed(wanted, error) from error


def _failed(requests: Sequence[EditRequest], error: LedgerError) -> EditError:
    return EditError([r.id for r in requests], str(error), NOT_FINITE if isinstance(error, NotFiniteError) else "")


def footprint_of(tensors: Iterable[Tensor]) -> Footprint:
    """Bytes of ``tensors``, on accelerators and in host memory."""
    device = host = 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if tensor.device.type == "cpu":
            host += size
        else:
            device += size
    return Footprint(device=device, host=host)
