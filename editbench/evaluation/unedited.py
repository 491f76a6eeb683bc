"""What the unedited model says: computed once, from the pristine weights, before the first edit; cached on disk."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from editbench.costs import UNEDITED_ANSWERS, CachedCosts
from editbench.evaluation import perplexity
from editbench.evaluation.questions import questions
from editbench.files import replacing
from editbench.model import likelihood as forward
from editbench.model.generation import VERSION as GENERATION_VERSION
from editbench.model.generation import Generation, Said, generate
from editbench.model.likelihood import Answer, Query, answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from editbench.evaluation.questions import Question
    from editbench.model.language_model import LanguageModel
    from editbench.records import EditRecord, Passage


FORMAT = 3


@dataclass(frozen=True)
class UneditedAnswers:
    """The unedited model's answers.

    Attributes:
        answers: By prompt and target, to all questions.
        texts: Scores of each text collection, as :func:`~editbench.evaluation.perplexity.summarise` gives them.
        said: By prompt and target, what the model generates, to probes whose answer should stay and whose target fits
            into the limit; None if nothing was generated.
    """

    answers: Mapping[tuple[str, str], Answer] = field(default_factory=dict)
    texts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    said: Mapping[tuple[str, str], Said] | None = None

    def answer_to(self, question: Question) -> Answer:
        """The unedited model's answer to a question.

        Raises:
            ValueError: The baseline was computed for other records.
        """
        try:
            return self.answers[question.probe.prompt, question.wanted]
        except KeyError:
            raise ValueError(
                f"the baseline has no answer to {question.probe.prompt!r} / {question.wanted!r}; "
                "compute it for all records that are scored"
            ) from None

    def said_to(self, question: Question) -> Said | None:
        """What the unedited model generates, if that was asked for and the target fits into the limit."""
        return self.said.get((question.probe.prompt, question.wanted)) if self.said is not None else None


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
    """The baseline of these records and texts: from the cache, or from the model, which must be unedited.

    Args:
        lm: The model with its pristine weights.
        records: All records that will be scored.
        texts: Text collections by name.
        unrelated: Questions of no record that will be scored.
        model_fingerprint: Identifies the pristine weights (``LanguageModel.fingerprint``).
        generation: How text is generated; None for no generated text.
        cache: Folder for cached baselines; None for none.
        costs: Where the seconds go; they are kept with a cached baseline.
        max_tokens: As in :func:`~editbench.evaluation.perplexity.text_scores`.
        tokens_per_batch: As in :func:`~editbench.model.likelihood.answer`.

    Warns:
        UserWarning: A cached baseline is damaged; it is computed again.
    """
    texts, costs = texts or {}, costs if costs is not None else CachedCosts()
    kept = max_tokens if max_tokens is not None else perplexity.default_max_tokens(lm)
    everything = [*(question for record in records for question in questions(record)), *unrelated]
    asked = sorted({(question.probe.prompt, question.wanted) for question in everything})
    stays = sorted({(question.probe.prompt, question.wanted) for question in everything if question.stays})
    key = _key(lm, model_fingerprint, [asked, stays, kept, _settings(lm, generation)], texts)
    path = cache / f"baseline-{key[:32]}.json" if cache is not None else None
    if path is not None and path.exists():
        found = _read(path, key)
        if found is not None:
            costs.note(UNEDITED_ANSWERS, found[1], read=True)
            return found[0]
    began = time.perf_counter()
    asked = [pair for pair in asked if lm.too_long(*pair) is None]  # the others are not scored either
    answers = answer(lm, [Query(prompt, (target,)) for prompt, target in asked], tokens_per_batch=tokens_per_batch)
    unedited = UneditedAnswers(
        {pair: one for pair, (one,) in zip(asked, answers, strict=True)},
        {
            name: perplexity.text_scores(lm, passages, max_tokens=kept, tokens_per_batch=tokens_per_batch)
            for name, passages in texts.items()
        },
        _generated(lm, stays, generation, tokens_per_batch) if generation is not None else None,
    )
    seconds = time.perf_counter() - began
    costs.note(UNEDITED_ANSWERS, seconds, read=False)
    if path is not None:
        _write(path, key, unedited, seconds)
    return unedited


def _generated(
    lm: LanguageModel, asked: Sequence[tuple[str, str]], generation: Generation, tokens_per_batch: int | None
) -> dict[tuple[str, str], Said]:
    limits = [(pair, generation.limit(lm, *pair)) for pair in asked]
    able = {pair: limit for pair, limit in limits if limit is not None}
    prompts = [prompt for prompt, _ in able]
    limit_of = list(able.values())
    said = generate(lm, prompts, limit_of, settings=generation, tokens_per_batch=tokens_per_batch)
    return dict(zip(able, said, strict=True))


def _settings(lm: LanguageModel, generation: Generation | None) -> dict[str, Any] | None:
    """All that decides what is generated, besides the model and the prompts."""
    if generation is None:
        return None
    settings = asdict(generation)
    if generation.top_k == 1:
        del settings["seed"]  # nothing is drawn
    return {**settings, "ends": sorted(lm.end_ids)}


def _key(
    lm: LanguageModel, model_fingerprint: str, asked: Sequence[Any], texts: Mapping[str, Sequence[Passage]]
) -> str:
    passages = {name: [(p.prompt, p.text) for p in several] for name, several in texts.items()}
    content = {
        "model": [model_fingerprint, lm.numerics],
        "queries": _digest([asked, passages]),
        "versions": [FORMAT, forward.VERSION, perplexity.VERSION, GENERATION_VERSION],
    }
    return _digest(content)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write(path: Path, key: str, unedited: UneditedAnswers, seconds: float) -> None:
    """Write a temporary file beside it and rename, so that readers see all of it or nothing."""
    answers = [[*pair, one.nll, one.correct, one.argmax, one.cut] for pair, one in unedited.answers.items()]
    said = None if unedited.said is None else [[*pair, s.text, s.finite] for pair, s in unedited.said.items()]
    content = {"answers": answers, "texts": unedited.texts, "said": said, "seconds": seconds}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"key": key, "digest": _digest(content), "content": content}), encoding="utf-8")


def _read(path: Path, key: str) -> tuple[UneditedAnswers, float] | None:
    """The cached baseline and the seconds that it took, or None with a warning if the file is not what was written."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        content = stored["content"]
        if stored["key"] != key or stored["digest"] != _digest(content):
            raise ValueError("its content does not match its digest")
        answers = {
            (prompt, target): Answer(nll, tuple(correct), tuple(argmax), cut)
            for prompt, target, nll, correct, argmax, cut in content["answers"]
        }
        said = content["said"]
        if said is not None:
            said = {(prompt, target): Said(text, finite) for prompt, target, text, finite in said}
        return UneditedAnswers(answers, content["texts"], said), float(content["seconds"])
    except (ValueError, KeyError, TypeError) as error:
        warnings.warn(f"the cached baseline {path} is damaged ({error}); it is computed again", stacklevel=3)
        return None
