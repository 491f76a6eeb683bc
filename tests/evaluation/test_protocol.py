"""Presets: each names measures that exist, reads the data as its paper does, and runs."""

import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from editbench import compose as composing_module
from editbench import datasets, single_run
from editbench.conf_groups import conf_names
from editbench.evaluation.metrics import get_metric
from editbench.records import PARAPHRASE, PROBE_KINDS
from editbench.results.leaderboard import read_row
from editbench.results.table_layout import layout
from tests.small_runs import save_model
from tests.tiny_models import tiny_lm

PRESETS = conf_names("protocol")


def test_they_are_all_there():
    assert {"default", "memit", "nse", "scen", "grace", "wise", "wild"} <= set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dataset", ["counterfact", "zsre", "hallucination"])
def test_headlines_are_measured(preset, dataset):
    protocol = composing_module.compose([f"protocol={preset}", f"dataset={dataset}"]).protocol
    assert protocol.name == preset
    headline = protocol.headline
    assert set(headline) == {"reliability", "generality", "locality"}
    for measure in headline.values():
        kind, metric = measure.split(".")
        assert kind in PROBE_KINDS and metric in protocol.metrics
        get_metric(metric)


@pytest.mark.slow
def test_only_scens_hallucination_scores_the_first_edits_alone():
    for preset in PRESETS:
        names = ("counterfact", "zsre", "hallucination")
        found = {
            name: composing_module.compose([f"protocol={preset}", f"dataset={name}"]).protocol.final_first
            for name in names
        }
        assert found == {**dict.fromkeys(found), **({"hallucination": 200} if preset == "scen" else {})}


def test_nse_is_memit_by_another_name():
    memit, nse = (composing_module.compose([f"protocol={name}"]).protocol for name in ("memit", "nse"))
    assert replace(nse, name="memit") == memit


# -- how the data is read ---------------------------------------------------------------------------------------------


def test_a_format_goes_around_every_prompt():
    plain = datasets.load("zsre", "pocket", limit=3)
    formatted = datasets.load("zsre", "pocket", limit=3, prompt_format="[INST]{}[/INST]")
    for one, other in zip(plain.records, formatted.records, strict=True):
        assert other.request.prompt == f"[INST]{one.request.prompt}[/INST]"
        assert [p.prompt for p in other.probes] == [f"[INST]{p.prompt}[/INST]" for p in one.probes]
        assert [p.target for p in other.probes] == [p.target for p in one.probes]
    assert plain.fingerprint != formatted.fingerprint


def test_only_so_many_paraphrases(tmp_path):
    file = tmp_path / "own.jsonl"
    row = {"prompt": "Rome is in", "target": "Spain", "paraphrases": list("abcde"), "locality": [{"prompt": "x"}]}
    file.write_text(json.dumps(row))
    (record,) = datasets.load("custom", file, paraphrases=3).records
    assert [p.prompt for p in record.probes if p.kind == PARAPHRASE] == ["a", "b", "c"]
    assert record.probes[-1].prompt == "x"


@pytest.mark.parametrize("wrong", [{"prompt_format": "[INST]"}, {"prompt_format": "{}{}"}, {"paraphrases": -1}])
def test_wrong_settings(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        datasets.load("zsre", "pocket", **wrong)


# -- from the command line --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    return save_model(tiny_lm("gpt2"), tmp_path_factory.mktemp("model") / "tiny")


def compose(tiny_folder, tmp_path, *overrides):
    places = [f"model.path={tiny_folder}", f"results.dir={tmp_path / 'results'}", f"cache={tmp_path / 'cache'}"]
    return composing_module.compose(
        ["method=unedited", "stream.edits=2", "protocol.max_tokens=16", *places, *overrides]
    )


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_run_on_zsre(preset, tiny_folder, tmp_path):
    outcome = single_run.run(compose(tiny_folder, tmp_path, f"protocol={preset}", "dataset=zsre"))
    row = read_row(outcome.folder)
    assert row["protocol"] == preset
    assert None not in (row["reliability"], row["generality"], row["locality"])
    rows = [json.loads(line) for line in (Path(outcome.folder) / "scores.jsonl").read_text().splitlines()]
    prompts = [p["prompt"] for r in rows for p in r.get("probes", ())]
    assert all(p.startswith("[INST]") == (preset == "scen") for p in prompts)


def test_a_setting_against_the_protocol_is_refused(tiny_folder, tmp_path):
    with pytest.raises(ValueError, match=r"protocol=wise reads zsre with target='alt'.*protocol\.data\.zsre\.target"):
        compose(tiny_folder, tmp_path, "protocol=wise", "dataset=zsre", "dataset.target=answers")
    single_run.run(
        compose(
            tiny_folder,
            tmp_path,
            *("protocol=wise", "dataset=zsre", "dataset.target=answers", "protocol.data.zsre.target=answers"),
        )
    )


def test_wise_shows_three_perplexities_of_the_edited_sentences(tiny_folder, tmp_path):
    """Also where the file is WISE's, beside which there are no accurate sentences."""
    file = tmp_path / "wise.json"
    record = {"subject": "x", "locality_prompt": "Rome is", "locality_ground_truth": "a city in Italy"}
    targets = ("He speaks French.", "Google works with Microsoft in London, they say.")
    rows = [{**record, "prompt": f"About x: {i}.", "target_new": target} for i, target in enumerate(targets)]
    file.write_text(json.dumps(rows))
    outcome = single_run.run(
        compose(tiny_folder, tmp_path, "protocol=wise", "dataset=hallucination", f"dataset.path={file}")
    )
    rows = [json.loads(line) for line in (Path(outcome.folder) / "scores.jsonl").read_text().splitlines()]
    each = [math.exp(p["nll"]) for r in rows for p in r.get("probes", ()) if p["kind"] == "rewrite"]
    assert len(each) == 2 and min(each) > 100  # the tiny model knows nothing
    wanted = (sum(each) / 2, median(each), 100.0)
    row = read_row(outcome.folder)
    names = [f"final.texts.edited.perplexity_{name}" for name in ("mean", "median", "clipped")]
    assert [row[name] for name in names] == pytest.approx(wanted, rel=1e-5)
    table = layout([row])
    assert table.titles[-4:-1] == ("edited PPL, mean", "edited PPL, median", "edited PPL, clipped")
    assert [shown.text for shown in table.lines[0][-4:-1]] == [f"{row[name]:.3f}" for name in names]
    assert "edited PPL, mean" not in layout([{**row, "protocol": "default"}]).titles


@pytest.mark.slow
def test_questions_of_no_record_are_scored_before_the_first_edit_and_at_the_end(tiny_folder, tmp_path):
    outcome = single_run.run(
        compose(tiny_folder, tmp_path, "protocol=scen", "dataset=zsre", "dataset.unrelated_path=pocket")
    )
    rows = [json.loads(line) for line in (Path(outcome.folder) / "scores.jsonl").read_text().splitlines()]
    found = {row["stage"]: row["scores"] for row in rows if row.get("of") == "unrelated"}
    assert set(found) == {"before", "final"}
    assert found["final"]["questions"] == 100
    assert found["before"]["generation_agreement"] == found["final"]["generation_agreement"] == 1.0  # unedited
    assert read_row(outcome.folder)["final.texts.unrelated.generation_exact"] == found["final"]["generation_exact"]


# -- headline measures that no score can be made of -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("reliability=rewrite.nll_difference", "nll_difference'?.* is no share"),
        ("reliability=free_text.ngram_entropy", "is no share"),
        ("reliability=rewrite.activation", "is no share"),
        ("reliability=rewrite.exactmatch", "unknown metric 'exactmatch'; did you mean 'exact_match'"),
        ("reliability=rewrte.exact_match", "unknown kind of question .*did you mean 'rewrite'"),
        ("reliability=unrelated.exact_match", "unknown kind of question"),
        ("reliability=exact_match", "unknown kind of question"),
        ("reliability=rewrite.generation_f1", "is not scored: add generation_f1 to protocol.metrics"),
        ("reliability=free_text.exact_match", "does not exist: exact_match scores no free_text"),
        ("reliability=rewrite.consistency", "does not exist: consistency scores no rewrite"),
        ("relability=rewrite.exact_match", "unknown headline measure 'relability'"),
    ],
)
def test_a_headline_measure_that_cannot_be_is_refused_before_the_run(
    tiny_folder, tmp_path, monkeypatch, override, message
):
    monkeypatch.setattr(
        "editbench.model.language_model.load_model", lambda *a, **k: pytest.fail("the model was loaded")
    )
    name, _, measure = override.partition("=")
    with pytest.raises(ValueError, match=message):
        single_run.run(compose(tiny_folder, tmp_path, "dataset=zsre", f"+protocol.headline.zsre={{{name}:{measure}}}"))
    assert not (tmp_path / "results").exists()


def test_a_missing_kind_of_question_is_said_before_the_run(tiny_folder, tmp_path, caplog):
    data = tmp_path / "edits.json"
    data.write_text(json.dumps([{"prompt": f"Toko{i} plays", "target": "guitar"} for i in range(2)]))
    places = ["dataset=custom", f"dataset.path={data}"]
    odd = compose(tiny_folder, tmp_path, *places, "+protocol.headline.custom={generality:reasoning.exact_match}")
    with pytest.raises(ValueError, match="has no number: no record has a question of the kind reasoning"):
        single_run.run(odd)
    outcome = single_run.run(compose(tiny_folder, tmp_path, *places))
    assert "no record has a paraphrase question: there will be no generality, and no score" in caplog.text
    row = read_row(outcome.folder)
    assert row["reliability"] == 0.0 and row["generality"] is None and row["score"] is None


def test_records_that_are_no_edits_are_said(tiny_folder, tmp_path, caplog):
    data = tmp_path / "edits.json"
    rows = [{"prompt": "Toko plays", "target": "Guitar", "target_true": "guitar"}]
    data.write_text(json.dumps([*rows, *({"prompt": f"Toko{i} plays", "target": "guitar"} for i in range(2))]))
    outcome = single_run.run(compose(tiny_folder, tmp_path, "dataset=custom", f"dataset.path={data}"))
    assert (
        f"1 of custom left out; the first, {data}:1: record '0': the new answer 'Guitar' is a true one" in caplog.text
    )
    info = json.loads((Path(outcome.folder) / "run.json").read_text())
    assert len(info["provenance"]["dataset"]["skipped"]) == 1 and info["provenance"]["stream"]["edits"] == 2
