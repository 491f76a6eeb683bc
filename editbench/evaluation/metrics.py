"""Metrics: from a model's answers to one probe to a number, each with the facts that a reader of the number needs.

Letters: target tokens y_1 … y_n after the prompt x; a_t is the argmax after x, y_1 … y_(t-1) (gold prefix fed in);
NLL(y) = -1/n Σ_t log p(y_t | x, y_<t).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench import plugins
from editbench.checks import unknown
from editbench.evaluation import answer_matching
from editbench.evaluation import fluency as fluency  # registers the metrics of free text
from editbench.evaluation.metric_facts import REGISTERED, Metric, describe, metric
from editbench.results.schema import DIFFERENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from editbench.model.generation import Generated
    from editbench.model.likelihood import TargetScore
    from editbench.records import Route
    from editbench.results.schema import MetricFacts, Range


@dataclass(frozen=True, slots=True)
class ProbeAnswers:
    """The model's answers to one probe.

    Attributes:
        target: Score of the right target.
        alternative: Score of the target that should be less likely, if there is one.
        before: The unedited model's score of the right target, on probes where nothing should change.
        gold: The right target, where one is known.
        generated: The generated answer, if a metric needs one and the right target fits into the limit.
        generated_before: The unedited model's generated answer, on probes where nothing should change.
        route: The edit that the method chooses for the prompt, if it keeps edits beside the weights.
        edit: Id of the edit that should answer; None where none should.
    """

    target: TargetScore
    alternative: TargetScore | None = None
    before: TargetScore | None = None
    gold: str | None = None
    generated: Generated | None = None
    generated_before: Generated | None = None
    route: Route | None = None
    edit: str | None = None


@metric(version=1, title="token accuracy", source="Mitchell et al. 2022 (MEND), as ZsRE is scored in ROME and MEMIT")
def token_accuracy(probe: ProbeAnswers) -> float | None:
    """Share of right target tokens: 1/n Σ_t [a_t = y_t]."""
    correct = probe.target.correct
    return sum(correct) / len(correct) if correct else None


@metric(
    version=1,
    title="exact match",
    source="De Cao et al. 2021 (KnowledgeEditor); is_correct on CounterFact in MEMIT's evaluation",
)
def exact_match(probe: ProbeAnswers) -> float | None:
    """All target tokens are right: Π_t [a_t = y_t]."""
    correct = probe.target.correct
    return float(all(correct)) if correct else None


@metric(
    version=2, title="target likelier", source="Meng et al. 2022 (ROME): efficacy, paraphrase and neighbourhood score"
)
def nll_contrast(probe: ProbeAnswers) -> float | None:
    """The target is likelier than the alternative: [NLL(target) < NLL(alternative)]; ties and NaN fail."""
    if probe.alternative is None or not (probe.target.tokens and probe.alternative.tokens):
        return None
    return float(probe.target.nll < probe.alternative.nll)


@metric(
    version=2,
    title="likelihood difference",
    range=DIFFERENCE,
    source="Meng et al. 2022 (ROME): efficacy, paraphrase and neighbourhood magnitude",
)
def nll_difference(probe: ProbeAnswers) -> float | None:
    """Difference of the likelihoods: exp(-NLL(target)) - exp(-NLL(alternative)); NaN where an NLL is."""
    if probe.alternative is None or not (probe.target.tokens and probe.alternative.tokens):
        return None
    return math.exp(-probe.target.nll) - math.exp(-probe.alternative.nll)


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


@metric(
    version=answer_matching.VERSION,
    needs="generation",
    title="generated answer",
    source="Yang et al. 2025 (The Mirage of Model Editing), with exact match as the judge",
)
def generation(probe: ProbeAnswers) -> float | None:
    """The generated answer is the target: [normalised answer = normalised target].

    Nothing is fed in; the answer is the text up to its end (end token, line, sentence). NaN logits make it wrong.
    """
    if probe.generated is None or probe.gold is None:
        return None
    return float(probe.generated.finite and answer_matching.matches(probe.generated.text, probe.gold))


@metric(version=1, needs="generation", title="generated text", source="Yao et al. 2024 (SCEN), on ZsRE")
def generation_exact(probe: ProbeAnswers) -> float | None:
    """The whole generated text is the target, but for spaces around it: [text = target].

    Only a model that ends its answers with the end token can pass: methods with ``train_eos`` train that.
    """
    if probe.generated is None or probe.gold is None:
        return None
    return float(probe.generated.finite and probe.generated.text.strip() == probe.gold.strip())


@metric(
    version=answer_matching.VERSION,
    needs="generation",
    title="target in text",
    source="substring match, as in open question answering, on normalised words",
)
def generation_contains(probe: ProbeAnswers) -> float | None:
    """The generated text contains the target as whole words, both normalised: [target ⊂ text].

    "French" is in "French-speaking", and "France" in "France's"; in scripts without spaces it may be anywhere.
    """
    if probe.generated is None or probe.gold is None:
        return None
    return float(probe.generated.finite and answer_matching.contains(probe.generated.text, probe.gold))


@metric(
    version=answer_matching.VERSION,
    needs="generation",
    title="generated F1",
    source="Rajpurkar et al. 2016 (SQuAD), as Hartvigsen et al. 2023 (GRACE) score question answering",
)
def generation_f1(probe: ProbeAnswers) -> float | None:
    """Words that the generated answer and the target share: F1 = 2 P R / (P + R), both normalised."""
    if probe.generated is None or probe.gold is None:
        return None
    return answer_matching.overlap(probe.generated.text, probe.gold) if probe.generated.finite else 0.0


@metric(
    version=answer_matching.VERSION,
    needs="generation",
    title="generated as before",
    source="agreement, on generated answers",
)
def generation_agreement(probe: ProbeAnswers) -> float | None:
    """The generated answer is the unedited model's generated answer: [normalised answers are equal]."""
    if probe.generated is None or probe.generated_before is None:
        return None
    finite = probe.generated.finite and probe.generated_before.finite
    return float(finite and answer_matching.same(probe.generated.text, probe.generated_before.text, probe.gold))


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
    """How strongly the method takes the prompt for that of an edit; for SCEN the largest activation of its neurons.

    Only for methods that keep their edits beside the weights.
    """
    return None if probe.route is None else probe.route.activation


@metric(version=1, needs="route", title="right edit", source="editbench: the method's choice against the record")
def routing(probe: ProbeAnswers) -> float | None:
    """The edit that answers is the right one: the record's own on its prompt and paraphrases, elsewhere none."""
    return None if probe.route is None else float(probe.route.id == probe.edit)


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


def ranges() -> dict[str, Range]:
    """The range of each metric that has one, by name."""
    return {metric.name: within for metric in list_metrics() if (within := metric.facts["range"]) is not None}


def facts(names: Iterable[str], ability: Iterable[str] = ()) -> dict[str, MetricFacts]:
    """Facts of everything that a run with these metrics and tests of general ability scores.

    Their keys are a metric's name, and for numbers of the model as a whole "perplexity.<name>", "drift.<name>",
    "unrelated.<name>" and "ability.<test>.<name>".
    """
    from editbench.evaluation import drift, general_ability, perplexity

    whole: dict[str, Mapping[str, MetricFacts]] = {
        "perplexity": perplexity.FACTS,
        "drift": drift.FACTS,
        "unrelated": UNRELATED_FACTS,
        "ability": general_ability.facts(ability),
    }
    of_model = {f"{kind}.{name}": fact for kind, of_kind in whole.items() for name, fact in of_kind.items()}
    return {**{name: get_metric(name).facts for name in names}, **of_model}


UNRELATED_FACTS = {
    "questions": describe("questions", version=1, source="questions asked", digits=0),
    "left_out": describe("left out", version=1, source="questions that cannot be asked", digits=0),
}
