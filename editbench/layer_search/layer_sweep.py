"""Layer sweep: single ROME edits at every layer, each on the unedited model and rolled back, scored as in a run.

Tracing finds the layers through which an answer passes, not the layers at which edits work (Hase et al., "Does
Localization Inform Editing?", NeurIPS 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from editbench.locate_then_edit.covariance import covariance_for
from editbench.locate_then_edit.templates import templates_for
from editbench.progress import progress
from editbench.records import EditError, EditRecord
from editbench.registry import DEFAULTS, load_method, make_config, make_editor
from editbench.results.leaderboard import penalised_score
from editbench.results.schema import HEADLINES, SHARE, Estimate, Range
from editbench.results.summary import summarise

if TYPE_CHECKING:
    from editbench.editor import Editor
    from editbench.evaluation.evaluator import Evaluator
    from editbench.model.language_model import LanguageModel
    from editbench.resources import Resources


METHOD = "rome"

VALUE_FOUND = "edit.value_found"
"""1 if the value optimisation's loss fell below ``stop_loss``, else 0."""

SECONDS = "edit.seconds"
"""Wall time of an edit, without evaluation."""

CONTRAST = "rewrite.nll_contrast"
"""Efficacy as in the papers, beside the protocol's headline measures."""


@dataclass(frozen=True)
class LayerScore:
    """Single edits at one layer."""

    layer: int
    edits: int  # number of scored edits
    failed: dict[str, str]  # reasons by id for the others
    measures: dict[str, Estimate]  # means over edits with a 95 % interval, by name
    score: float | None  # penalised, of the headline measures that the records have; None if no edit could be made


def sweep_layers(
    lm: LanguageModel,
    records: Sequence[EditRecord],
    layers: Sequence[int],
    evaluator: Evaluator,
    headline: Mapping[str, str],
    resources: Resources,
    settings: Mapping[str, Any],
) -> list[LayerScore]:
    """Score every edit alone at every layer, in the order of ``layers``; the model's weights stay, to the last bit.

    Covariance of all layers is computed in one pass, if ROME's ``settings`` need it, context templates once.
    ``headline`` names the measures of reliability, generality and locality.
    """
    for layer in layers:
        lm.mlp_out(layer)  # refuses a layer that does not exist
    config = make_config(METHOD, load_method(METHOD).config_class, settings)
    plan = [("", tokens, count) for tokens, count in config.template_lengths]
    shared = replace(resources, templates=templates_for(lm, resources.templates, plan, resources.seed))
    if config.covariance_adjustment:
        shared = replace(shared, covariance=covariance_for(lm, layers, resources, config.covariance_tokens))
    ranges = {metric.name: within for metric in evaluator.metrics if (within := metric.facts["range"]) is not None}
    found = []
    with progress("sweeping layers", len(layers) * len(records)) as advance:
        for layer in layers:
            editor = make_editor(METHOD, lm, resources=shared, hparams=DEFAULTS, **{**settings, "layer": layer})
            editor.prepare([record.request for record in records])  # outside an edit's seconds
            rows = []
            for position, record in enumerate(records):
                rows.append(_edit_and_score(editor, record, position, evaluator))
                advance(note=f"layer {layer}")
            found.append(_layer_score(layer, rows, headline, ranges))
    return found


def _edit_and_score(editor: Editor[Any], record: EditRecord, position: int, evaluator: Evaluator) -> dict[str, Any]:
    """The evaluator's row after this edit alone, with loss and time of the edit, which is rolled back."""

    def scored(unsupported: Mapping[str, str]) -> dict[str, Any]:
        at = [(record, position)]
        (row,) = evaluator.score(at, stage="immediate", edits=1, batch=position, editor=editor, unsupported=unsupported)
        return row

    try:
        result = editor.edit([record.request])
    except EditError as error:
        return scored({record.id: f"failed: {error.reason}"})
    try:
        row = scored(result.skipped)
    finally:
        editor.ledger.rollback()
    if row["status"] == "scored":
        found = result.losses[record.id][-1] < editor.config.stop_loss
        row["scores"].update({VALUE_FOUND: float(found), SECONDS: result.seconds})
    return row


def _layer_score(
    layer: int, rows: list[dict[str, Any]], headline: Mapping[str, str], ranges: Mapping[str, Range]
) -> LayerScore:
    summary = summarise(rows, headline, ranges={**ranges, VALUE_FOUND: SHARE})["immediate"]
    assert summary is not None
    measured = {kind: m for kind in HEADLINES if (m := summary["headline"][kind])["n"] or m["nonfinite"]}
    means = {kind: m["mean"] or 0.0 for kind, m in measured.items()}  # 0 where no edit left a finite number
    edits = summary["records"]["scored"]
    return LayerScore(
        layer=layer,
        edits=edits,
        failed={row["record"]: row["reason"] for row in rows if row["status"] != "scored"},
        measures=summary["measures"],
        score=penalised_score(means, edits / len(rows)) if means else None,
    )


MAX_LAYERS = 5
"""Longest range of layers to choose, as in most published settings."""

TIE = 0.05
"""Numbers less than this share below the largest count as equal to it."""


@dataclass(frozen=True)
class Choice:
    """ROME's layer, the range of layers for MEMIT and NSE, and the name of the number that decided."""

    layer: int
    layers: tuple[int, ...]
    by: str


def choose_layers(values: Mapping[int, float], n_layers: int, by: str) -> Choice | None:
    """The layers to edit by a number for each measured layer, larger is better; None if none is above zero.

    ROME's layer has the largest number. The range has up to :data:`MAX_LAYERS` layers, at most a quarter of the model,
    and ends at the last of the layers from there on that tie with it.
    """
    best = max(values, key=lambda layer: (values[layer], -layer), default=None)
    if best is None or not values[best] > 0:
        return None
    length = max(1, min(MAX_LAYERS, n_layers // 4))
    end = best
    while end + 1 < best + length and values.get(end + 1, 0.0) >= (1 - TIE) * values[best]:
        end += 1
    return Choice(best, tuple(range(max(0, end - length + 1), end + 1)), by)
