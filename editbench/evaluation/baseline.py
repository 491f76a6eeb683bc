"""What the unedited model says: computed once, from the pristine weights, before the first edit; cached on disk."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.evaluation import forward, perplexity
from editbench.evaluation.forward import Answer, Query, answer
from editbench.evaluation.questions import questions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from editbench.evaluation.questions import Question
    from editbench.host import Host
    from editbench.records import EditRecord, Passage

FORMAT = 1


@dataclass(frozen=True)
class Baseline:
    """The unedited model's answers.

    Attributes:
        answers: By prompt and target, to all probes whose answer should stay.
        texts: Scores of each text collection, as :func:`~editbench.evaluation.perplexity.summarise` gives them.
    """

    answers: Mapping[tuple[str, str], Answer] = field(default_factory=dict)
    texts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

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


def compute_baseline(
    host: Host,
    records: Iterable[EditRecord],
    texts: Mapping[str, Sequence[Passage]] | None = None,
    *,
    model_fingerprint: str,
    cache: Path | None = None,
    max_tokens: int | None = None,
    tokens_per_batch: int | None = None,
) -> Baseline:
    """The baseline of these records and texts: from the cache, or from the model, which must be unedited.

    Args:
        host: The model with its pristine weights.
        records: All records that will be scored.
        texts: Text collections by name.
        model_fingerprint: Identifies the pristine weights (``Host.fingerprint``).
        cache: Folder for cached baselines; None for none.
        max_tokens: As in :func:`~editbench.evaluation.perplexity.text_scores`.
        tokens_per_batch: As in :func:`~editbench.evaluation.forward.answer`.

    Warns:
        UserWarning: A cached baseline is damaged; it is computed again.
    """
    texts = texts or {}
    kept = max_tokens if max_tokens is not None else perplexity.default_max_tokens(host)
    stays = [question for record in records for question in questions(record) if question.stays]
    asked = sorted({(question.probe.prompt, question.wanted) for question in stays})
    key = _key(model_fingerprint, asked, texts, kept)
    path = cache / f"baseline-{key[:32]}.json" if cache is not None else None
    if path is not None and path.exists():
        found = _read(path, key)
        if found is not None:
            return found
    said = answer(host, [Query(prompt, (target,)) for prompt, target in asked], tokens_per_batch=tokens_per_batch)
    scores = {
        name: perplexity.text_scores(host, passages, max_tokens=kept, tokens_per_batch=tokens_per_batch)
        for name, passages in texts.items()
    }
    baseline = Baseline({pair: one for pair, (one,) in zip(asked, said, strict=True)}, scores)
    if path is not None:
        _write(path, key, baseline)
    return baseline


def _key(
    model_fingerprint: str, asked: Sequence[tuple[str, str]], texts: Mapping[str, Sequence[Passage]], max_tokens: int
) -> str:
    passages = {name: [(p.prompt, p.text) for p in several] for name, several in texts.items()}
    content = {
        "model": model_fingerprint,
        "queries": _digest([asked, passages, max_tokens]),
        "versions": [FORMAT, forward.VERSION, perplexity.VERSION],
    }
    return _digest(content)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write(path: Path, key: str, baseline: Baseline) -> None:
    """Write a temporary file beside it and rename, so that readers see all of it or nothing."""
    answers = [[*pair, one.nll, one.correct, one.argmax, one.cut] for pair, one in baseline.answers.items()]
    content = {"answers": answers, "texts": baseline.texts}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"key": key, "digest": _digest(content), "content": content}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(path: Path, key: str) -> Baseline | None:
    """The cached baseline, or None with a warning if the file is not what was written."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        content = stored["content"]
        if stored["key"] != key or stored["digest"] != _digest(content):
            raise ValueError("its content does not match its digest")
        answers = {
            (prompt, target): Answer(nll, tuple(correct), tuple(argmax), cut)
            for prompt, target, nll, correct, argmax, cut in content["answers"]
        }
        return Baseline(answers, content["texts"])
    except (ValueError, KeyError, TypeError) as error:
        warnings.warn(f"the cached baseline {path} is damaged ({error}); it is computed again", stacklevel=3)
        return None
