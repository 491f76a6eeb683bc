"""Presets: each names measures that exist, reads the data as its paper does, and runs."""

import json
from pathlib import Path

import pytest

from editbench import datasets, runner, setup
from editbench.config import final_first_of, headline_of
from editbench.console import conf_names
from editbench.evaluation.scorers import get_scorer
from editbench.records import PARAPHRASE, PROBE_KINDS
from editbench.results.leaderboard import read_row
from tests.zoo import tiny_host

PRESETS = conf_names("protocol")


def test_they_are_all_there():
    assert {"default", "memit", "nse", "scen", "grace", "wise", "wild"} <= set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dataset", ["counterfact", "zsre", "hallucination"])
def test_headlines_are_measured(preset, dataset):
    protocol = runner.compose([f"protocol={preset}", f"dataset={dataset}"]).protocol
    assert protocol.name == preset
    headline = headline_of(protocol, dataset)
    assert set(headline) == {"reliability", "generality", "locality"}
    for measure in headline.values():
        kind, scorer = measure.split(".")
        assert kind in PROBE_KINDS and scorer in protocol.scorers
        get_scorer(scorer)


def test_only_scens_hallucination_scores_the_first_edits_alone():
    for preset in PRESETS:
        protocol = runner.compose([f"protocol={preset}"]).protocol
        found = {name: final_first_of(protocol, name) for name in ("counterfact", "zsre", "hallucination")}
        assert found == {**dict.fromkeys(found), **({"hallucination": 200} if preset == "scen" else {})}


def test_nse_is_memit_by_another_name():
    memit, nse = (runner.compose([f"protocol={name}"]).protocol for name in ("memit", "nse"))
    assert {**nse, "name": "memit"} == dict(memit)


# -- how the data is read ---------------------------------------------------------------------------------------------


def test_a_format_goes_around_every_prompt():
    plain = datasets.load("zsre", "pocket", limit=3)
    posed = datasets.load("zsre", "pocket", limit=3, prompt_format="[INST]{}[/INST]")
    for one, other in zip(plain.records, posed.records, strict=True):
        assert other.request.prompt == f"[INST]{one.request.prompt}[/INST]"
        assert [p.prompt for p in other.probes] == [f"[INST]{p.prompt}[/INST]" for p in one.probes]
        assert [p.target for p in other.probes] == [p.target for p in one.probes]
    assert plain.fingerprint != posed.fingerprint


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
    folder = tmp_path_factory.mktemp("model") / "tiny"
    host = tiny_host("gpt2")
    host.model.save_pretrained(folder)
    host.tokenizer.save_pretrained(folder)
    return folder


def compose(tiny_folder, tmp_path, *overrides):
    places = [f"model.path={tiny_folder}", f"results.dir={tmp_path / 'results'}", f"cache={tmp_path / 'cache'}"]
    return runner.compose(["method=unedited", "stream.edits=2", "protocol.max_tokens=16", *places, *overrides])


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_run_on_zsre(preset, tiny_folder, tmp_path):
    outcome = setup.run(compose(tiny_folder, tmp_path, f"protocol={preset}", "dataset=zsre"))
    row = read_row(outcome.folder)
    assert row["protocol"] == preset
    assert None not in (row["reliability"], row["generality"], row["locality"])
    rows = [json.loads(line) for line in (Path(outcome.folder) / "scores.jsonl").read_text().splitlines()]
    prompts = [p["prompt"] for r in rows for p in r.get("probes", ())]
    assert all(p.startswith("[INST]") == (preset == "scen") for p in prompts)


def test_a_setting_against_the_protocol_is_refused(tiny_folder, tmp_path):
    config = compose(tiny_folder, tmp_path, "protocol=wise", "dataset=zsre", "dataset.target=answers")
    with pytest.raises(ValueError, match=r"protocol=wise reads zsre with target='alt'.*protocol\.data\.zsre\.target"):
        setup.run(config)
    setup.run(
        compose(
            tiny_folder,
            tmp_path,
            *("protocol=wise", "dataset=zsre", "dataset.target=answers", "protocol.data.zsre.target=answers"),
        )
    )


def test_questions_of_no_record_are_scored_before_the_first_edit_and_at_the_end(tiny_folder, tmp_path):
    outcome = setup.run(
        compose(tiny_folder, tmp_path, "protocol=scen", "dataset=zsre", "dataset.unrelated_path=pocket")
    )
    rows = [json.loads(line) for line in (Path(outcome.folder) / "scores.jsonl").read_text().splitlines()]
    found = {row["moment"]: row["scores"] for row in rows if row.get("texts") == "unrelated"}
    assert set(found) == {"baseline", "final"}
    assert found["final"]["questions"] == 100
    assert found["baseline"]["generation_agreement"] == found["final"]["generation_agreement"] == 1.0  # unedited
    assert read_row(outcome.folder)["final.texts.unrelated.generation_exact"] == found["final"]["generation_exact"]
