"""What the two papers claim, each as comparisons of figures that the study measures; ``docs/study_tables.py`` decides.

A claim holds where every comparison does, does not hold where none does, and holds in part otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Figure:
    """One measured number: a column of the one run of a sweep that has these values and settings."""

    words: str
    sweep: str  # a file of results/reference/study
    measure: str
    where: Mapping[str, Any] = field(default_factory=dict)  # columns and settings of the method
    after: int | None = None  # edits of the stream, if not all


@dataclass(frozen=True)
class Comparison:
    """One figure ahead of another: outside of both intervals, or with ``keeps`` not behind it outside of both."""

    better: Figure
    worse: Figure
    keeps: bool = False
    small: bool = False  # the smaller is better


@dataclass(frozen=True)
class Claim:
    """A claim in our words; ``paper`` is where it is made."""

    paper: str
    words: str
    comparisons: tuple[Comparison, ...]
    why: str  # the likely reason of what was found; a reason without a run begins with "Conjecture"


def _of(method: str, measure: str = "score", sweep: str = "embedded", **where: Any) -> Figure:
    return Figure(method, sweep, measure, {"method": method, **where})


def _against(
    ahead: str, others: tuple[str, ...], measure: str = "score", *, small: bool = False, **where: Any
) -> tuple[Comparison, ...]:
    """One method against each of others."""
    return tuple(
        Comparison(_of(ahead, measure, **where), _of(other, measure, **where), small=small) for other in others
    )


def _ablation(words: str, measure: str = "score", **changed: Any) -> Figure:
    full = {"rewind": True, "memory": "all", "max_iterations": 3, "neuron_threshold": 1.0}
    return Figure(words, "nse_ablation_1000", measure, {"method": "nse", **full, **changed})


def _theta(theta: float, measure: str, dataset: str) -> Figure:
    return Figure(f"θ = {theta}", "scen_theta", measure, {"dataset": dataset, "theta": theta})


NSE = "NSE: Neuron-level Sequential Editing"
SCEN = "SCEN: Scalable Model Editing via Customized Expert Networks"
IN_WEIGHTS = ("memit", "rome", "finetune")
WITH_MEMORY = ("alphaedit", "memit_seq")
BATCHES = (5, 20, 100)
EXACT, NEIGHBOURS = "final.rewrite.exact_match", "final.locality.exact_match"
CLAIMS = (
    Claim(
        NSE,
        "In a long stream it edits better than fine-tuning, ROME and MEMIT.",
        _against("nse", IN_WEIGHTS, dataset="counterfact")
        + _against("nse", IN_WEIGHTS, dataset="zsre")
        + _against("nse", IN_WEIGHTS, sweep="smollm2"),
        "Its memory of earlier keys, which MEMIT has not: without it NSE falls far (fourth claim). A heavier "
        "covariance buys neighbours with edits (one setting changed, in the study).",
    ),
    Claim(
        NSE,
        "In a long stream it edits better than MEMIT with a memory, RECT, PRUNE and AlphaEdit.",
        _against("nse", WITH_MEMORY + ("rect", "prune"), dataset="counterfact")
        + _against("nse", WITH_MEMORY + ("rect", "prune"), dataset="zsre"),
        "AlphaEdit and MEMIT with a memory keep the keys of earlier edits in the update, too: it is this that the "
        "three share (fourth claim), RECT and PRUNE have none.",
    ),
    Claim(
        NSE,
        "Values optimised on the original weights keep what sequential optimisation loses.",
        tuple(
            Comparison(_ablation("with rewinding", measure), _ablation("without", measure, rewind=False))
            for measure in ("score", EXACT, NEIGHBOURS)
        ),
        "More edits hold without it, and fewer neighbours stay. Conjecture: the layers above the edited ones are never "
        "changed, so that optimising on the current weights makes good what earlier edits have moved; rewinding "
        "pays where the model has begun to fail, which this one has not in 1,000 edits.",
    ),
    Claim(
        NSE,
        "Keys of earlier edits, held in the update, protect them.",
        tuple(
            Comparison(_ablation("with memory", measure), _ablation("without", measure, memory="none"))
            for measure in ("score", EXACT)
        ),
        "The same run without it.",
    ),
    Claim(
        NSE,
        "A second round for edits that did not take makes more of them hold.",
        tuple(
            Comparison(_ablation("two rounds", measure), _ablation("one", measure, max_iterations=2))
            for measure in ("reliability", EXACT)
        ),
        "The second round moves the edits that the first left off their values, and no more of them hold at the end.",
    ),
    Claim(
        NSE,
        "Updating only the neurons that respond most spares what the edits are not about.",
        tuple(
            Comparison(_ablation("p = 0.8", measure, neuron_threshold=0.8), _ablation("all neurons", measure))
            for measure in ("locality", NEIGHBOURS)
        ),
        "Fewer neurons must carry the same change: with p .8 fewer edits hold (reliability in the table), and "
        "neighbours gain nothing.",
    ),
    Claim(
        NSE,
        "It is ahead of MEMIT at every batch size.",
        tuple(
            Comparison(
                Figure(f"nse, batches of {n}", "nse_batch_size", measure, {"method": "nse", "batch_size": n}),
                Figure("memit", "nse_batch_size", measure, {"method": "memit", "batch_size": n}),
            )
            for n in BATCHES
            for measure in ("score", EXACT)
        ),
        "After 500 edits nearly every answer is likelier than its old one under both, which S asks; by exact match "
        "MEMIT has lost more, least in the largest batches, which write fewest times.",
    ),
    Claim(
        NSE,
        "General ability stays as edits grow, where others lose it.",
        _against("nse", IN_WEIGHTS, "final.ability.pocket.recall", sweep="nse_general"),
        "As with edits: what keeps other facts keeps these. MEMIT is level after 200 edits, before it loses its own.",
    ),
    Claim(
        NSE,
        "Hidden states of facts that no edit touches shift less than under other methods.",
        _against("nse", IN_WEIGHTS, "final.texts.drift.hidden_shift", sweep="nse_shift", small=True),
        "Close to MEMIT. Conjecture: both spread a change over four layers, ROME and fine-tuning put it into one.",
    ),
    Claim(
        SCEN,
        "In a long stream it is ahead of fine-tuning, ROME, MEMIT and GRACE on ZsRE and Hallucination.",
        _against("scen", ("grace", *IN_WEIGHTS), dataset="zsre")
        + _against("scen", ("grace", *IN_WEIGHTS), "reliability", dataset="hallucination"),
        "An expert sees no other edit. On Hallucination it loses with the length of the stream where an edit's "
        "prompt finds another edit's expert (SCEN's threshold in the study: edits that find their expert).",
    ),
    Claim(
        SCEN,
        "Edits hold in other words, where methods with a memory of prompts miss them.",
        (Comparison(_of("scen", "generality", dataset="zsre"), _of("grace", "generality", dataset="zsre")),),
        "By little: at the radius that its search found GRACE holds nearly all paraphrases; at the published "
        "radius it does not (one setting changed, in the study).",
    ),
    Claim(
        SCEN,
        "What is not edited stays as it was: the base weights are never changed.",
        _against("scen", ("memit",), "locality", dataset="zsre")
        + _against("scen", ("memit",), "locality", dataset="hallucination"),
        "Questions that find no expert get the unedited model's answer. On Hallucination texts that are not "
        "edited find one more often: their activations are high (SCEN's threshold in the study).",
    ),
    Claim(
        SCEN,
        "Perplexity of other texts stays where that of methods in the weights grows.",
        _against("scen", IN_WEIGHTS, "perplexity_ratio", dataset="hallucination", small=True),
        "As what is not edited: texts that find no expert are the unedited model's.",
    ),
    Claim(
        SCEN,
        "The first 200 edits are still held after 1,000.",
        (
            Comparison(
                Figure("after 1,000", "scen_first_200", "reliability", {"dataset": "zsre"}),
                Figure("after 200", "scen_first_200", "reliability", {"dataset": "zsre"}, after=200),
                keeps=True,
            ),
        ),
        "Neurons are trained against all earlier edits, and experts are never changed.",
    ),
    Claim(
        SCEN,
        "The threshold θ trades edits against what is not edited: a higher one spares more.",
        tuple(Comparison(_theta(0.9, "locality", d), _theta(0.5, "locality", d)) for d in ("zsre", "hallucination")),
        "Activations lie near 0 or 1, so that few fall between two thresholds. That SCEN has 100 generic negatives "
        "here, as published none, is not the reason: without them neurons fire on most of what is not edited, at θ .5 "
        "and .9 alike (SCEN's threshold without generic negatives, in the study).",
    ),
)
