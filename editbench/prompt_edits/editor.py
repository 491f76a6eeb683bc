"""Base class of editors that put edits before the prompt and leave every weight as it is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from editbench.checks import at_least, suggestion
from editbench.editor import Editor, EditResult, Footprint
from editbench.records import NOT_FINITE, EditError, EditRequest
from editbench.room import OF_AN_ENTRY, Room

from .embedding import KEPT
from .facts import Fact, FactStore

if TYPE_CHECKING:
    from torch import Tensor

    from editbench.ledger import Ledger, Transaction
    from editbench.model.language_model import LanguageModel
    from editbench.model.shape import Shape
    from editbench.resources import Resources
    from editbench.room import Workload


@dataclass
class PromptConfig:
    """Settings of what stands before a prompt.

    Attributes:
        fact: Text of a fact, with "{prompt}" and "{target}".
        lead: Text between the facts and the prompt; a prompt without facts stays as it is.
        answer_tokens: Tokens of the model's length that are kept free behind the prompt; facts beyond are left out.
    """

    fact: str = "New Fact: {prompt} {target}\n"
    lead: str = "Prompt: "
    answer_tokens: int = 10

    def __post_init__(self) -> None:
        at_least(1, answer_tokens=self.answer_tokens)
        if not all(self.fact.count(part) == 1 for part in ("{prompt}", "{target}")):
            raise ValueError(f'fact is {self.fact!r}; it must have "{{prompt}}" and "{{target}}", once each')


C = TypeVar("C", bound=PromptConfig)


class PromptEditor(Editor[C]):
    """Keeps edits as facts; a subclass chooses those that stand before a prompt.

    Attributes:
        store: The edits.
    """

    kind = "prompt"
    deletes = True

    def __init__(self, lm: LanguageModel, ledger: Ledger, config: C, resources: Resources | None = None) -> None:
        """Start without facts."""
        super().__init__(lm, ledger, config, resources)
        self.store = FactStore(type(self).__name__)
        ledger.before_rollback.append(self.store.cut)
        self._tokens = lru_cache(KEPT)(lambda text: len(lm.encode(text).ids))

    @abstractmethod
    def texts(self, prompt: str) -> Sequence[str]:
        """Texts before a plain prompt, the most important first; those that do not fit are left out from the end."""

    def vector(self, prompt: str) -> Tensor | None:
        """Vector (d,) of a plain prompt; None if facts are not looked up by one."""
        return None

    @classmethod
    def room(cls, config: C, shape: Shape, work: Workload) -> Room:
        """Facts as text, and their vectors where they are looked up by one."""
        vectors = 0 if cls.vector is PromptEditor.vector else work.edits * shape.width * shape.wide
        text = work.edits * OF_AN_ENTRY
        return Room(kept=vectors, host=text, disk=vectors + text)

    def write(self, batch: Sequence[EditRequest], transaction: Transaction, result: EditResult) -> None:
        """Keep the batch as facts; no weight changes."""
        plain, number = self.resources.prompt_format.plain, len(self.ledger)
        prompts = [plain(request.prompt) for request in batch]
        facts = [
            Fact(request.id, prompt, request.target, number, self.vector(prompt))
            for request, prompt in zip(batch, prompts, strict=True)
        ]
        if bad := [fact.id for fact in facts if fact.vector is not None and not bool(fact.vector.isfinite().all())]:
            raise EditError(bad, "the vector of the prompt became NaN or infinite", NOT_FINITE)
        self.store.keep(transaction, facts)

    def facts(self) -> Sequence[Fact]:
        """The facts that count now, oldest first."""
        return self.store.current(self.ledger)

    def fact_text(self, prompt: str, target: str) -> str:
        """A fact as it stands before a prompt."""
        return self.config.fact.format(prompt=prompt, target=target)

    def transform_prompt(self, prompt: str) -> str:
        """The prompt behind the facts that are chosen for it, as many as fit."""
        asked = self.config.lead + prompt
        room = self.lm.max_length - self.config.answer_tokens
        alone = self._tokens("") + 1  # what a text has by itself alone: BOS, and a token of its last blank
        left, kept = room - self._tokens(self.resources.prompt_format.apply(asked)), list[str]()
        for text in self.texts(prompt):
            left -= max(0, self._tokens(text) - alone)
            if left < 0:
                break
            kept.append(text)
        while kept:
            whole = "".join([*reversed(kept), asked])
            if len(self.lm.encode(self.resources.prompt_format.apply(whole)).ids) <= room:
                return whole
            kept.pop()
        return prompt

    def delete(self, id: str) -> None:
        """Undo one edit, and the older ones of its prompt with it; a ValueError if there is none."""
        found = next((fact for fact in self.facts() if fact.id == id), None)
        if found is not None:
            self.store.forget(self.ledger, found)
        elif id in self.ledger.edited_ids:  # a newer one has replaced it
            self.ledger.forget_id(id)
            self.store.changed()
        else:
            raise ValueError(f"there is no edit {id!r}; {suggestion(id, [fact.id for fact in self.facts()])}")

    def footprint(self) -> Footprint:
        """Texts and vectors of all edits."""
        of = Footprint.of(self.store.tensors())
        return Footprint(of.device, of.host + self.store.text_bytes, of.disk)

    def state(self) -> dict[str, Tensor]:
        """All facts."""
        return self.store.state(self.ledger)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Replace the facts by those of a state."""
        self.store.restore(state, self.ledger)

    def state_beside_ledger(self) -> dict[str, Tensor]:
        """Nothing, since each batch's facts are in the ledger; all facts if the ledger is in memory."""
        return {} if self.ledger.on_disk else self.state()

    def recall(self, rest: Mapping[str, Tensor]) -> None:
        """Replace the facts by those of the ledger's batches, or of ``rest``, which then has all."""
        self.store.recall(self.ledger, rest)
