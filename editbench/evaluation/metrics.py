"""Metrics: from a model's answers to one probe to a number, each with the facts that a reader of the number needs.

Letters: target tokens y_1 … y_n after the prompt x; a_t is the argmax after x, y_1 … y_(t-1) (gold prefix fed in);
NLL(y) = -1/n Σ_t log p(y_t | x, y_<t).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

from editbench import plugins
from editbench.checks import unknown
from editbench.evaluation import generated_text
from editbench.evaluation.judge import prompt
from editbench.evaluation.probe_answers import ProbeAnswers as ProbeAnswers  # noqa: TC001 - for other packages' metrics
from editbench.results.schema import DIFFERENCE, SHARE, MetricFacts, Range

if TYPE_CHECKING:
    from editbench.evaluation.generated_text import GeneratedTexts

NEEDS = ("generation", "unedited", "route", "free_text", "judge")
GENERATING = ("generation", "judge")  # needs of metrics of generated answers


@dataclass(frozen=True, slots=True)
class Metric:
    """A formula with its facts; ``description`` is its function's docstring.

    ``score`` makes a number of :class:`ProbeAnswers`, or for "free_text" of
    :class:`~editbench.evaluation.generated_text.GeneratedTexts`; None where the formula does not apply.
    """

    name: str
    score: Callable[[Any], float | None]
    description: str
    needs: str | None
    facts: MetricFacts

    @property
    def version(self) -> int:
        """Another number for another formula."""
        return self.facts["version"]

    @property
    def share(self) -> bool:
        """Whether all its numbers are shares, so that they may be averaged into the score."""
        return self.facts["range"] == SHARE


Formula = TypeVar("Formula", bound="Callable[[Any], float | None]")

REGISTERED: dict[str, Metric] = {}


def describe(
    title: str,
    *,
    source: str,
    version: int = 1,
    range: Range | None = None,
    higher_is_better: bool | None = None,
    digits: int = 3,
    seeds: str = "mean",
    tolerance: float | None = None,
) -> MetricFacts:
    """The facts of a number; see :class:`~editbench.results.schema.MetricFacts`."""
    return MetricFacts(
        title=title,
        version=version,
        range=None if range is None else (float(range[0]), float(range[1])),
        higher_is_better=higher_is_better,
        digits=digits,
        seeds=seeds,
        tolerance=tolerance,
        source=source,
    )


def metric(*, version: int, needs: str | None = None, **facts: Any) -> Callable[[Formula], Formula]:
    """Register a function as a metric under its own name, which its entry point in another package must repeat.

    Its formula may need "generation" (generated answers), "unedited" (the unedited model's scores), "route" (the
    method's choice of an edit), "free_text" (it is one of generated texts), or "judge" (a judge's verdicts). The
    further facts are those of :func:`describe`; by default those of a share of which more is better.
    """
    if needs is not None and needs not in NEEDS:
        raise unknown("need of a metric", needs, NEEDS)
    known = describe(**{"range": SHARE, "higher_is_better": True, "tolerance": 0.02, "version": version, **facts})

    def register(score: Formula) -> Formula:
        name = score.__name__
        other = REGISTERED.get(name)
        if other is not None and other.score.__module__ != score.__module__:
            raise ValueError(f"the metric {name!r} is defined by {other.score.__module__} and by {score.__module__}")
        REGISTERED[name] = Metric(name, score, inspect.getdoc(score) or "", needs, known)
        return score

    return register


@metric(version=1, title="token accuracy", source="Mitchell et al. 2022 (MEND), as ZsRE is scored in ROME and MEMIT")
def token_accuracy(probe: ProbeAnswers) -> float | None:
    """Share of right target tokens: 1/n Σ_t [a_t = y_t]."""
    return fmean(probe.target.correct) if probe.target.correct else None


@metric(
    version=1,
    title="exact match",
    source="De Cao et al. 2021 (KnowledgeEditor); is_correct on CounterFact in MEMIT's evaluation",
)
def exact_match(probe: ProbeAnswers) -> float | None:
    """All target tokens are right: Π_t [a_t = y_t]."""
    return float(all(probe.target.correct)) if probe.target.correct else None


@metric(
    version=2, title="target likelier", source="Meng et al. 2022 (ROME): efficacy, paraphrase and neighbourhood score"
)
def nll_contrast(probe: ProbeAnswers) -> float | None:
    """The target is likelier than the alternative: [NLL(target) < NLL(alternative)]; ties and NaN fail."""
    return None if probe.contrast is None else float(probe.contrast[0] < probe.contrast[1])


@metric(
    version=2,
    title="likelihood difference",
    range=DIFFERENCE,
    source="Meng et al. 2022 (ROME): efficacy, paraphrase and neighbourhood magnitude",
)
def nll_difference(probe: ProbeAnswers) -> float | None:
    """Difference of the likelihoods: exp(-NLL(target)) - exp(-NLL(alternative)); NaN where an NLL is."""
    return None if probe.contrast is None else math.exp(-probe.contrast[0]) - math.exp(-probe.contrast[1])


@metric(version=1, needs="unedited", title="as before", source="all tokens of agreement_tokens")
def agreement(probe: ProbeAnswers) -> float | None:
    """The argmax is the unedited model's at all of the target's positions: Π_t [a_t = a_t before].

    The unedited model need not be right. Without a known target only the next token counts.
    """
    share = agreement_tokens(probe)
    return None if share is None else float(share == 1.0)


@metric(version=1, needs="unedited", title="tokens as before", source="Yao et al. 2023 (EasyEdit): locality")
def agreement_tokens(probe: ProbeAnswers) -> float | None:
    """Share of the target's positions whose argmax is the unedited model's: 1/n Σ_t [a_t = a_t before]."""
    if probe.before is None or not probe.target.tokens:
        return None
    now, before = probe.target.argmax, probe.before.argmax
    return sum(a == b >= 0 for a, b in zip(now, before, strict=True)) / len(now)


_of_answers = partial(metric, version=generated_text.VERSION, needs="generation")


@_of_answers(
    title="generated answer", source="Yang et al. 2025 (The Mirage of Model Editing), with exact match as the judge"
)
def generation(probe: ProbeAnswers) -> float | None:
    """The generated answer is the target: [normalised answer = normalised target].

    Nothing is fed in; the answer is the text up to its end (end token, line, sentence). NaN logits make it wrong.
    """
    return probe.compared(generated_text.matches)


@metric(version=1, needs="generation", title="generated text", source="Yao et al. 2024 (SCEN), on ZsRE")
def generation_exact(probe: ProbeAnswers) -> float | None:
    """The whole generated text is the target, but for spaces around it: [text = target].

    Only a model that ends its answers with the end token can pass: methods with ``train_eos`` train that.
    """
    return probe.compared(lambda text, gold: text.strip() == gold.strip())


@_of_answers(title="target in text", source="substring match, as in open question answering, on normalised words")
def generation_contains(probe: ProbeAnswers) -> float | None:
    """The generated text contains the target as whole words, both normalised: [target ⊂ text].

    "French" is in "French-speaking", and "France" in "France's"; in scripts without spaces it may be anywhere.
    """
    return probe.compared(generated_text.contains)


@_of_answers(
    title="generated F1",
    source="Rajpurkar et al. 2016 (SQuAD), as Hartvigsen et al. 2023 (GRACE) score question answering",
)
def generation_f1(probe: ProbeAnswers) -> float | None:
    """Words that the generated answer and the target share: F1 = 2 P R / (P + R), both normalised."""
    return probe.compared(generated_text.overlap)


@_of_answers(title="generated as before", source="agreement, on generated answers")
def generation_agreement(probe: ProbeAnswers) -> float | None:
    """The generated answer is the unedited model's generated answer: [normalised answers are equal]."""
    if probe.generated is None or probe.generated_before is None:
        return None
    finite = probe.generated.finite and probe.generated_before.finite
    return float(finite and generated_text.same(probe.generated.text, probe.generated_before.text, probe.gold))


_of_verdicts = partial(metric, version=prompt.VERSION, needs="judge")


@_of_verdicts(title="judged right", source="Zheng et al. 2023 (LLM-as-a-judge), with the prompt of docs/judge.md")
def judge(probe: ProbeAnswers) -> float | None:
    """A judge says that the generated answer is right: [verdict = yes]; none where it says neither yes nor no."""
    return None if probe.verdict is None or probe.verdict.right is None else float(probe.verdict.right)


@_of_verdicts(title="judge as exact match", source="editbench: the judge against exact match of the generated answer")
def judge_agreement(probe: ProbeAnswers) -> float | None:
    """The judge's verdict is that of ``generation``: [(verdict = yes) = (normalised answer = normalised target)]."""
    exact, judged = generation(probe), judge(probe)
    return None if exact is None or judged is None else float(exact == judged)


@_of_verdicts(
    title="no verdict", higher_is_better=False, tolerance=None, source="editbench: share of replies without a verdict"
)
def judge_unclear(probe: ProbeAnswers) -> float | None:
    """The judge says neither yes nor no: [no verdict]; such an answer counts neither as right nor as wrong."""
    return None if probe.verdict is None else float(probe.verdict.right is None)


@metric(
    version=1, title="NaN", higher_is_better=False, tolerance=None, source="editbench: share of probes without numbers"
)
def nonfinite(probe: ProbeAnswers) -> float | None:
    """The model gives no number: [NLL(target) or NLL(alternative) is NaN or infinite]."""
    if not probe.target.tokens:
        return None
    scores = [score for score in (probe.target, probe.alternative) if score is not None]
    return float(not all(score.finite for score in scores))


@metric(
    version=1,
    needs="route",
    title="activation",
    range=None,
    higher_is_better=None,
    tolerance=None,
    source="Yao et al. 2024 (SCEN): figures of activations",
)
def activation(probe: ProbeAnswers) -> float | None:
    """Strength of the match between the prompt and an edit; for SCEN the largest activation of its neurons.

    Only for methods that keep their edits beside the weights.
    """
    return None if probe.route is None else probe.route.activation


@metric(version=1, needs="route", title="right edit", source="editbench: the method's choice against the record")
def routing(probe: ProbeAnswers) -> float | None:
    """The edit that answers is the right one, or a memory with it; none where the answer should stay, else its own."""
    route = probe.route
    return None if route is None else float(route.id == probe.edit or probe.edit in route.shared)


@metric(
    version=1,
    needs="free_text",
    title="n-gram entropy",
    range=None,
    tolerance=None,
    source="Zhang et al. 2018, as in Meng et al. 2022 (ROME), with another splitter of words",
)
def ngram_entropy(generated: GeneratedTexts) -> float | None:
    """Fluency: mean over texts of ½ (⅔ H₂ + 4⁄3 H₃), H_n the entropy of a text's n-grams, bits.

    Low for a text that repeats itself; NaN where the model gives no numbers.
    """
    entropies = [generated_text.entropy(generated_text.tokens(text)) for text in generated.texts]
    return None if not entropies else sum(entropies) / len(entropies) if generated.finite else math.nan


@metric(
    version=1,
    needs="free_text",
    title="consistency",
    source="Meng et al. 2022 (ROME), with document frequencies of the run's own references",
)
def consistency(generated: GeneratedTexts) -> float | None:
    """TF-IDF cosine of all texts with all reference texts, each put together; NaN where the model gives no numbers."""
    if not (generated.texts and generated.references):
        return None
    likeness = generated_text.cosine(" ".join(generated.texts), " ".join(generated.references), generated.idf)
    return min(likeness, 1.0) if generated.finite else math.nan  # rounding may exceed it


def list_metrics() -> list[Metric]:
    """All metrics, by name, those of other packages included."""
    for name in plugins.entry_points(plugins.METRICS):
        get_metric(name)
    return sorted(REGISTERED.values(), key=lambda metric: metric.name)


def get_metric(name: str) -> Metric:
    """A metric by name; one of another package is imported now."""
    if name not in REGISTERED:
        points = plugins.entry_points(plugins.METRICS)
        if name not in points:
            raise unknown("metric", name, [*REGISTERED, *points])
        plugins.load(plugins.METRICS, name, "metric")
        if name not in REGISTERED:
            raise ValueError(f"the entry point {name!r} in {plugins.METRICS} is no function with @metric of that name")
    return REGISTERED[name]


def facts(names: Iterable[str], ability: Iterable[str] = ()) -> dict[str, MetricFacts]:
    """Facts of all numbers of a run with these metrics and tests of general ability, by name.

    The names are those of the metrics, and for numbers of the model as a whole "perplexity.<name>", "drift.<name>",
    "unrelated.<name>" and "ability.<test>.<name>".
    """
    from editbench.evaluation import drift, general_ability, hidden_shift, perplexity

    asked = describe("questions", source="questions asked", digits=0)
    left_out = describe("left out", source="questions that cannot be asked", digits=0)
    whole: dict[str, Mapping[str, MetricFacts]] = {
        "perplexity": perplexity.FACTS,
        "drift": {**drift.FACTS, **hidden_shift.FACTS},
        "unrelated": {"questions": asked, "left_out": left_out},
        "ability": general_ability.facts(ability),
    }
    of_model = {f"{kind}.{name}": fact for kind, of_kind in whole.items() for name, fact in of_kind.items()}
    return {**{name: get_metric(name).facts for name in names}, **of_model}
