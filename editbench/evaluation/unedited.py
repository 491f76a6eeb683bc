"""Answers of the unedited model: computed once, before the first edit, and cached on disk.

They are computed in parts, each saved once it is there. Parts go by the questions alone, whatever is saved already, so
that answers have the same bits wherever an earlier process was stopped.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.costs import UNEDITED_ANSWERS, CachedCosts
from editbench.evaluation import perplexity
from editbench.evaluation.questions import Question, askable, questions
from editbench.files import replacing
from editbench.model import generation as generating
from editbench.model import likelihood
from editbench.model.generation import Generated, Generation, generate_answers
from editbench.model.likelihood import CPU_TOKENS, GPU_TOKENS, Query, TargetScore, score_targets
from editbench.progress import progress
from editbench.records import EditRecord, Passage

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

FORMAT = 4
BATCHES_OF_A_PART = 64
"""Batches of tokens in a part of the questions, which a stop can lose: a small model takes a minute or less."""
Asked = tuple[str, str]
"""Prompt and target of a question."""


@dataclass(frozen=True)
class UneditedAnswers:
    """The unedited model's answers to all questions, and its numbers of each text collection.

    Answers are generated for probes whose answer should stay and whose target fits into the limit; None if no metric
    needs them.
    """

    scores: Mapping[Asked, TargetScore] = field(default_factory=dict)
    texts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    generated: Mapping[Asked, Generated] | None = None

    def score_of(self, question: Question) -> TargetScore:
        """Score of the question's target."""
        try:
            return self.scores[question.probe.prompt, question.target]
        except KeyError:
            raise ValueError(
                f"the unedited model has no answer to {question.probe.prompt!r} / {question.target!r}; "
                "ask it the questions of all records that are scored"
            ) from None

    def generated_for(self, question: Question, lm: LanguageModel) -> Generated | None:
        """The generated answer, if there is one."""
        return self.generated.get((question.probe.prompt, question.most_tokens(lm))) if self.generated else None


def ask_unedited(
    lm: LanguageModel,
    records: Iterable[EditRecord],
    texts: Mapping[str, Sequence[Passage]] | None = None,
    *,
    unrelated: Sequence[Question] = (),
    model_fingerprint: str,
    generation: Generation | None = None,
    cache: Path | None = None,
    costs: CachedCosts | None = None,
    max_tokens: int | None = None,
    tokens_per_batch: int | None = None,
) -> UneditedAnswers:
    """Answers to the questions of these records and texts, from the cache or from the model, which must be unedited.

    Warns of a damaged file in the cache, and computes its answers again. Without ``generation`` no answers are
    generated, without ``cache`` (a folder) nothing is cached. ``costs`` gets the seconds, which are cached, and the
    file's digest. ``unrelated`` are questions of no record; the fingerprint is that of the pristine weights; limits are
    those of :func:`~editbench.evaluation.perplexity.text_scores`.
    """
    texts, costs = texts or {}, costs if costs is not None else CachedCosts()
    max_tokens = max_tokens if max_tokens is not None else perplexity.default_max_tokens(lm)
    raw = [*(question for record in records for question in questions(record)), *unrelated]
    unaskable = lambda query: lm.unaskable(query.prompt, *query.targets)  # noqa: E731
    everything = [askable(question, unaskable)[0] if question.also else question for question in raw]
    asked = sorted({(one.probe.prompt, one.target) for question in everything for one in question.each})
    stays = sorted({(question.probe.prompt, question.most_tokens(lm)) for question in everything if question.stays})
    passages = {name: [(p.prompt, p.text) for p in of_name] for name, of_name in texts.items()}
    content = {
        "model": [model_fingerprint, lm.numerics],
        "queries": _digest([[asked, stays, max_tokens, _settings(lm, generation)], passages]),
        "versions": [FORMAT, likelihood.VERSION, perplexity.VERSION, generating.VERSION],
    }
    key = _digest(content)
    path = cache / f"{key[:32]}.json" if cache is not None else None
    name = f"{path.parent.name}/{path.name}" if path is not None else ""
    if path is not None and (found := _read(path, key)) is not None:
        unedited, seconds, costs.digests[name] = found
        costs.note(UNEDITED_ANSWERS, seconds, read=True)
        return unedited
    asked = [pair for pair in asked if lm.unaskable(*pair) is None]  # the others are not scored either
    stays = [pair for pair in stays if lm.unwritable(*pair) is None]
    work = _Work(lm, asked, texts, None if generation is None else stays, generation, max_tokens, tokens_per_batch)
    unedited, seconds = _by_parts(work, path, key, costs)
    if path is not None:
        costs.digests[name] = _write(path, key, unedited, seconds)
        for file in path.parent.glob(f"{path.stem}.*.json"):
            file.unlink(missing_ok=True)
    return unedited


@dataclass(frozen=True)
class _Work:
    """All that the unedited model is asked; arguments as for :func:`ask_unedited`."""

    lm: LanguageModel
    asked: Sequence[Asked]
    texts: Mapping[str, Sequence[Passage]]
    stays: Sequence[Asked] | None  # to generate answers to
    generation: Generation | None
    max_tokens: int
    tokens_per_batch: int | None

    def parts(self) -> Iterator[tuple[Any, Callable[[], UneditedAnswers]]]:
        """Content of each part, and a function that computes it; a part does not depend on any other."""
        for some in self._cut(self.asked):
            yield ["scores", some], partial(self._score, some)
        for name, passages in self.texts.items():
            yield ["texts", name], partial(self._score_texts, name, passages)
        for some in self._cut(self.stays or ()):
            yield ["generated", some], partial(self._generate, some)

    def _cut(self, pairs: Sequence[Asked]) -> Iterator[list[Asked]]:
        """The pairs in parts of so many tokens, common beginnings counted each time."""
        budget = self.tokens_per_batch or (CPU_TOKENS if self.lm.device.type == "cpu" else GPU_TOKENS)
        part: list[Asked] = []
        tokens = 0
        for pair in pairs:
            part.append(pair)
            tokens += len(self.lm.encode(pair[0]).ids) + len(self.lm.continuation(pair[1], self.lm.spaced(pair[0])))
            if tokens >= budget * BATCHES_OF_A_PART:
                yield part
                part, tokens = [], 0
        if part:
            yield part

    def _score(self, pairs: Sequence[Asked]) -> UneditedAnswers:
        queries = [Query(prompt, (target,)) for prompt, target in pairs]
        scores = score_targets(self.lm, queries, tokens_per_batch=self.tokens_per_batch)
        return UneditedAnswers({pair: score for pair, (score,) in zip(pairs, scores, strict=True)})

    def _score_texts(self, name: str, passages: Sequence[Passage]) -> UneditedAnswers:
        most, at_once = self.max_tokens, self.tokens_per_batch
        scores = perplexity.text_scores(self.lm, passages, max_tokens=most, tokens_per_batch=at_once)
        return UneditedAnswers(texts={name: scores})

    def _generate(self, pairs: Sequence[Asked]) -> UneditedAnswers:
        assert self.generation is not None
        answers = generate_answers(self.lm, pairs, self.generation, tokens_per_batch=self.tokens_per_batch)
        return UneditedAnswers(generated={p: a for p, a in zip(pairs, answers, strict=True) if a is not None})


def _by_parts(work: _Work, path: Path | None, key: str, costs: CachedCosts) -> tuple[UneditedAnswers, float]:
    """The answers, and their seconds; parts are saved beside ``path`` as they come, and read if they were."""
    scores: dict[Asked, TargetScore] = {}
    texts: dict[str, Mapping[str, float]] = {}
    generated: dict[Asked, Generated] | None = None if work.stays is None else {}
    total, parts = 0.0, list(work.parts())
    with progress("unedited answers", len(parts)) as advance:
        for content, compute in parts:
            own = _digest([key, content])
            file = path.with_name(f"{path.stem}.{own[:32]}.json") if path is not None else None
            if file is not None and (found := _read(file, own)) is not None:
                part, seconds, _ = found
                costs.note(UNEDITED_ANSWERS, seconds, read=True)
            else:
                costs.missing(UNEDITED_ANSWERS, key)
                start = time.perf_counter()
                part = compute()
                seconds = time.perf_counter() - start
                costs.note(UNEDITED_ANSWERS, seconds, read=False)
                if file is not None and len(parts) > 1:
                    _write(file, own, part, seconds)
            scores |= part.scores
            texts |= part.texts
            if generated is not None:
                generated |= part.generated or {}
            total += seconds
            advance()
    return UneditedAnswers(scores, texts, generated), total


def _settings(lm: LanguageModel, generation: Generation | None) -> dict[str, Any] | None:
    """Everything that decides a generated answer, besides model and prompt."""
    if generation is None:
        return None
    settings = asdict(generation)
    if generation.top_k == 1:
        del settings["seed"]  # nothing is drawn
    return {**settings, "ends": sorted(lm.end_ids)}


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write(path: Path, key: str, unedited: UneditedAnswers, seconds: float) -> str:
    """Write the answers; the content digest."""
    scores = [[*pair, score.nll, score.correct, score.argmax, score.cut] for pair, score in unedited.scores.items()]
    generated = None
    if unedited.generated is not None:
        generated = [[*pair, answer.text, answer.finite] for pair, answer in unedited.generated.items()]
    content = {"scores": scores, "texts": unedited.texts, "generated": generated, "seconds": seconds}
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = _digest(content)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"key": key, "digest": digest, "content": content}), encoding="utf-8")
    return digest


def _read(path: Path, key: str) -> tuple[UneditedAnswers, float, str] | None:
    """The cached answers, their seconds, the content digest; None without the file, with a warning if it is damaged."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        content = stored["content"]
        if stored["key"] != key or stored["digest"] != _digest(content):
            raise ValueError("its content does not match its digest")
        scores = {
            (prompt, target): TargetScore(nll, tuple(correct), tuple(argmax), cut)
            for prompt, target, nll, correct, argmax, cut in content["scores"]
        }
        generated = content["generated"]
        if generated is not None:
            generated = {(prompt, target): Generated(text, finite) for prompt, target, text, finite in generated}
        return UneditedAnswers(scores, content["texts"], generated), float(content["seconds"]), str(stored["digest"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        warnings.warn(
            f"the cached answers of the unedited model in {path} are damaged ({error}); they are computed again",
            stacklevel=3,
        )
        return None
