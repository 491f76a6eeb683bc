"""Metrics: from a model's answers to one probe to a number. Each has a name, a version and a formula.

A metric looks at :class:`ProbeAnswers` and gives a number, or None where it does not apply (no second answer, no
answer of the unedited model, no scored token). A change of formula is a new version. Another metric is one more
function with :func:`metric` above it.

Letters: target tokens y_1 … y_n after the prompt x, a_t the argmax after x, y_1 … y_(t-1) (gold prefix fed in),
NLL(y) = -1/n Σ_t log p(y_t | x, y_<t).
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from editbench.checks import unknown
from editbench.evaluation import answer_matching as wording
from editbench.evaluation import fluency as free_texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from editbench.evaluation.fluency import GeneratedTexts
    from editbench.model.generation import Said
    from editbench.model.likelihood import Answer
    from editbench.records import Route


@dataclass(frozen=True, slots=True)
class ProbeAnswers:
    """What is known about one probe.

    Attributes:
        wanted: The model's answer to the right target.
        other: Its answer to the target that should be less likely.
        before: The unedited model's answer to the right target, on probes where nothing should change.
        gold: The right target, where one is known.
        said: What the model generates by itself, if that was asked for and the right target fits into the limit.
        said_before: What the unedited model generates, on probes where nothing should change.
        recognised: What the method sees in the prompt, if it keeps its edits beside the weights and was asked.
        edit: The edit that should answer; None where none should.
    """

    wanted: Answer
    other: Answer | None = None
    before: Answer | None = None
    gold: str | None = None
    said: Said | None = None
    said_before: Said | None = None
    recognised: Route | None = None
    edit: str | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """A named formula.

    Attributes:
        name: As in the results.
        version: Another number for another formula.
        score: The formula.
        description: Its docstring: formula and source.
        generates: Whether it looks at what the model says to a probe by itself.
        recognises: Whether it looks at what the method sees in a prompt.
        on: What it scores: "probe" (:class:`ProbeAnswers`) or "free_text"
            (:class:`~editbench.evaluation.fluency.Writing`).
        within: Between which values every number it gives lies, if it is known: its interval relies on that.
    """

    name: str
    version: int
    score: Callable[[Any], float | None]
    description: str
    generates: bool = False
    on: str = "probe"
    recognises: bool = False
    within: tuple[float, float] | None = None

    @property
    def share(self) -> bool:
        """Whether its numbers are shares, so that they may be averaged into the score."""
        return self.within == SHARE


SHARE = (0.0, 1.0)
"""The range of shares."""

Formula = TypeVar("Formula", bound="Callable[[Any], float | None]")

_METRICS: dict[str, Metric] = {}


def metric(
    version: int,
    *,
    generates: bool = False,
    on: str = "probe",
    recognises: bool = False,
    share: bool = False,
    within: tuple[float, float] | None = None,
) -> Callable[[Formula], Formula]:
    """Register a function as a metric under its own name; ``share`` stands for ``within=SHARE``."""

    def register(score: Formula) -> Formula:
        name = score.__name__
        limits = SHARE if share else within
        _METRICS[name] = Metric(name, version, score, inspect.getdoc(score) or "", generates, on, recognises, limits)
        return score

    return register


def list_metrics() -> list[Metric]:
    """All metrics, by name."""
    return sorted(_METRICS.values(), key=lambda s: s.name)


def get_metric(name: str) -> Metric:
    """A metric by name.

    Raises:
        ValueError: There is none of that name (with a did-you-mean).
    """
    if name not in _METRICS:
        raise unknown("metric", name, _METRICS)
    return _METRICS[name]


def ranges() -> dict[str, tuple[float, float]]:
    """Between which values a metric's numbers lie, for those that say it: what intervals of their means rely on."""
    return {one.name: one.within for one in list_metrics() if one.within is not None}


@metric(version=1, share=True)
def token_accuracy(evidence: ProbeAnswers) -> float | None:
    """Share of right target tokens: 1/n Σ_t [a_t = y_t].

    Source: Mitchell et al. 2022 (MEND), as ZsRE is scored in ROME and MEMIT.
    """
    correct = evidence.wanted.correct
    return sum(correct) / len(correct) if correct else None


@metric(version=1, share=True)
def exact_match(evidence: ProbeAnswers) -> float | None:
    """All target tokens are right: Π_t [a_t = y_t].

    Source: De Cao et al. 2021 (KnowledgeEditor); `is_correct` on CounterFact in MEMIT's evaluation.
    """
    correct = evidence.wanted.correct
    return float(all(correct)) if correct else None


@metric(version=2, share=True)
def nll_contrast(evidence: ProbeAnswers) -> float | None:
    """The right answer is the likelier one: [NLL(wanted) < NLL(other)]; ties and NaN fail. Equal answers: no number.

    Source: Meng et al. 2022 (ROME), efficacy, paraphrase and neighbourhood score.
    """
    if evidence.other is None or not (evidence.wanted.tokens and evidence.other.tokens):
        return None
    return float(evidence.wanted.nll < evidence.other.nll)


@metric(version=2, within=(-1.0, 1.0))
def nll_difference(evidence: ProbeAnswers) -> float | None:
    """By how much it is likelier: exp(-NLL(wanted)) - exp(-NLL(other)); NaN where an NLL is. Equal answers: no number.

    Source: Meng et al. 2022 (ROME), efficacy, paraphrase and neighbourhood magnitude.
    """
    if evidence.other is None or not (evidence.wanted.tokens and evidence.other.tokens):
        return None
    return math.exp(-evidence.wanted.nll) - math.exp(-evidence.other.nll)


@metric(version=1, share=True)
def agreement(evidence: ProbeAnswers) -> float | None:
    """The unedited model's answer at all of the target's positions: Π_t [a_t = a_t before].

    Locality against the model itself, right or wrong. Without a known target: at the next token.
    """
    share = agreement_tokens(evidence)
    return None if share is None else float(share == 1.0)


@metric(version=1, share=True)
def agreement_tokens(evidence: ProbeAnswers) -> float | None:
    """Share of the target's positions with the unedited model's answer: 1/n Σ_t [a_t = a_t before].

    Source: Yao et al. 2023 (EasyEdit), locality.
    """
    if evidence.before is None or not evidence.wanted.tokens:
        return None
    now, before = evidence.wanted.argmax, evidence.before.argmax
    return sum(a == b >= 0 for a, b in zip(now, before, strict=True)) / len(now)


@metric(version=wording.VERSION, generates=True, share=True)
def generation(evidence: ProbeAnswers) -> float | None:
    """The model says the right answer by itself: [normalised answer = normalised target].

    Greedy, nothing fed in; the answer is the generated text up to its end (end token, line, sentence). Text that ends
    in no number is no answer. Source: Yang et al. 2025 (The Mirage of Model Editing), with exact match as the judge.
    """
    if evidence.said is None or evidence.gold is None:
        return None
    return float(evidence.said.finite and wording.matches(evidence.said.text, evidence.gold))


@metric(version=1, generates=True, share=True)
def generation_exact(evidence: ProbeAnswers) -> float | None:
    """The whole generated text is the target, but for spaces around it: [text = target].

    Only a model that ends its answers with the end token can pass: methods with ``train_eos`` train exactly that.
    Source: Yao et al. 2024 (SCEN), on ZsRE.
    """
    if evidence.said is None or evidence.gold is None:
        return None
    return float(evidence.said.finite and evidence.said.text.strip() == evidence.gold.strip())


@metric(version=wording.VERSION, generates=True, share=True)
def generation_contains(evidence: ProbeAnswers) -> float | None:
    """The right answer stands somewhere in the generated text, as whole words, both normalised.

    "French" stands in "French-speaking", and "France" in "France's"; in scripts without spaces it may stand anywhere.
    """
    if evidence.said is None or evidence.gold is None:
        return None
    return float(evidence.said.finite and wording.contains(evidence.said.text, evidence.gold))


@metric(version=wording.VERSION, generates=True, share=True)
def generation_f1(evidence: ProbeAnswers) -> float | None:
    """Words that the model's own answer and the right one share: F1 = 2 P R / (P + R), both normalised.

    Source: Rajpurkar et al. 2016 (SQuAD), as GRACE (Hartvigsen et al. 2023) scores question answering.
    """
    if evidence.said is None or evidence.gold is None:
        return None
    return wording.overlap(evidence.said.text, evidence.gold) if evidence.said.finite else 0.0


@metric(version=wording.VERSION, generates=True, share=True)
def generation_agreement(evidence: ProbeAnswers) -> float | None:
    """The model says by itself what the unedited model says by itself: [normalised answers are equal]."""
    if evidence.said is None or evidence.said_before is None:
        return None
    finite = evidence.said.finite and evidence.said_before.finite
    return float(finite and wording.same(evidence.said.text, evidence.said_before.text, evidence.gold))


@metric(version=1, share=True)
def nonfinite(evidence: ProbeAnswers) -> float | None:
    """The model gives no number: [NLL(wanted) or NLL(other) is NaN or infinite].

    Averages to the share of such probes.
    """
    if not evidence.wanted.tokens:
        return None
    answers = [answer for answer in (evidence.wanted, evidence.other) if answer is not None]
    return float(not all(answer.finite for answer in answers))


@metric(version=1, recognises=True)
def activation(evidence: ProbeAnswers) -> float | None:
    """How strongly the method takes the prompt for that of an edit; for SCEN the largest activation of its neurons.

    Only for methods that keep their edits beside the weights. Source: Yao et al. 2024 (SCEN), figures of activations.
    """
    return None if evidence.recognised is None else evidence.recognised.activation


@metric(version=1, recognises=True, share=True)
def routing(evidence: ProbeAnswers) -> float | None:
    """The edit that answers is the right one: the record's own on its prompt and paraphrases, elsewhere none."""
    return None if evidence.recognised is None else float(evidence.recognised.id == evidence.edit)


@metric(version=1, on="free_text")
def ngram_entropy(writing: GeneratedTexts) -> float | None:
    """Fluency: mean over texts of ½ (⅔ H₂ + 4⁄3 H₃), H_n the entropy of a text's n-grams, bits.

    A text that repeats itself has little. NaN where the model gives no numbers. Source: Zhang et al. 2018, as in Meng
    et al. 2022 (ROME), with a word splitter of ours.
    """
    if not writing.texts:
        return None
    mean = sum(free_texts.entropy(free_texts.words(text)) for text in writing.texts) / len(writing.texts)
    return mean if writing.finite else math.nan


@metric(version=1, on="free_text", share=True)
def consistency(writing: GeneratedTexts) -> float | None:
    """TF-IDF cosine of all texts with all reference texts, each put together; NaN where the model gives no numbers.

    Source: Meng et al. 2022 (ROME). Document frequencies are those of the run's own references.
    """
    if not (writing.texts and writing.references):
        return None
    likeness = free_texts.cosine(" ".join(writing.texts), " ".join(writing.references), writing.idf)
    return min(likeness, 1.0) if writing.finite else math.nan  # rounding may exceed it
