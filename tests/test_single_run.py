"""A run is found again, and only with the inputs and formulas that it was made with; values can be found before it."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import yaml

from editbench import compose, datasets, single_run
from editbench.datasets.disjoint import CrossingError, record_hashes
from editbench.results import RunFolder
from editbench.results.leaderboard import read_row
from editbench.results.table_layout import layout
from tests.small_runs import counterfact_rows
from tests.test_editing_loop import comparable, make, tiny_folder  # noqa: F401
from tests.test_provenance import places, run  # noqa: F401
from tests.tiny_models import tiny_lm


def test_the_same_command_finds_its_run_and_rerun_does_it_again(make):  # noqa: F811
    first = single_run.run(make())
    again = single_run.run(make())
    assert again.already_done
    assert again.folder == first.folder
    before = comparable(first.folder)
    redone = single_run.run(make("results.rerun=true"))
    assert not redone.already_done
    assert comparable(redone.folder) == before  # same seed, same machine: same numbers to the bit


@pytest.mark.parametrize("name", [".", "..", "../up", "/tmp/x", "-rf", "", "a\x1b[2J"])
def test_a_name_that_leaves_the_results_folder_is_refused_before_anything_is_joined_or_deleted(make, tmp_path, name):  # noqa: F811
    kept = tmp_path / "results" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(ValueError, match=r"results.name is .* not a folder name"):
        make(f"results.name='{name}'", "results.rerun=true")
    assert [path.name for path in kept.parent.iterdir()] == ["mine.txt"]


def test_a_repetition_deletes_what_a_run_makes_and_takes_what_a_kill_has_left(make):  # noqa: F811
    folder = single_run.run(make()).folder
    (folder / "notes.txt").write_text("mine")
    for gone in ("run.json", "scores.jsonl", "edits.jsonl", "chain.jsonl", "manifest.json", "config.yaml"):
        (folder / gone).unlink()  # what is left is the ledger, as of a deletion that was killed
    with pytest.raises(ValueError, match=r"holds parts of a run without run.json \(ledger/.*results.rerun=true"):
        single_run.run(make())
    assert read_row(single_run.run(make("results.rerun=true")).folder)["status"] == "done"
    assert (folder / "notes.txt").read_text() == "mine"


def change_weights(at):
    lm = tiny_lm("gpt2")
    lm.weight(lm.mlp_out_name(1))[0, 0] += 1.0
    lm.model.save_pretrained(at / "tiny")


def change_generation_settings(at):
    file = at / "tiny" / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": [0, 5]}))


def change_tokenizer(at):
    file = at / "tiny" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "clean_up_tokenization_spaces": True}))


def change_texts(at):
    (at / "texts.txt").write_text("Other words.")


def change_records(at):
    rows = list(counterfact_rows())
    rows[1]["target_new"] = "Latin"
    (at / "data.json").write_text(json.dumps(rows))


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (change_weights, "model.path/model.safetensors is"),
        (change_generation_settings, "model.path/generation_config.json is"),
        (change_tokenizer, "model.path/tokenizer_config.json is"),
        (
            lambda places: (places / "tiny" / "chat_template.jinja").write_text("x"),  # noqa: F811
            "chat_template.jinja is missing and",
        ),
        (lambda places: shutil.rmtree(places / "tiny"), "config.json is .* and missing"),  # noqa: F811
        (change_texts, "model.texts is"),
        (change_records, "the dataset has changed"),
    ],
)
def test_a_run_is_not_found_again_where_its_inputs_have_changed(places, change, named, done):  # noqa: F811
    (places / "texts.txt").write_text("Some words.")
    texts = f"model.texts={places / 'texts.txt'}"
    folder = run(places, texts)
    assert run(places, texts) == folder  # nothing has changed
    if not done:
        with RunFolder.open(folder) as store:
            store.set_status("running")
    change(places)
    with pytest.raises(ValueError, match=f"{named}.*results.rerun=true, or give it a results.name"):
        run(places, texts)


def test_a_run_does_not_go_on_with_other_formulas(places, monkeypatch):  # noqa: F811
    run(places)
    monkeypatch.setattr("editbench.model.likelihood.VERSION", 99)
    with pytest.raises(
        ValueError, match="formulas have changed since .*: likelihood is [0-9]+ and 99; do the run again"
    ):
        run(places)


def test_a_checkpoint_that_was_edited_again_is_noticed(places):  # noqa: F811
    shutil.copytree(places / "tiny", places / "edited")
    path = f"method.path={places / 'edited'}"
    first = run(places, path, method="external_weights")
    lm = tiny_lm("gpt2")
    lm.weight(lm.mlp_out_name(0))[0, 0] += 1.0
    lm.model.save_pretrained(places / "edited")
    with pytest.raises(ValueError, match="method.path/model.safetensors is"):
        run(places, path, method="external_weights")
    second = run(places, path, "results.name=again", method="external_weights")
    assert read_row(first)["identity"] != read_row(second)["identity"]
    assert read_row(first)["comparable_group"] == read_row(second)["comparable_group"]


def test_a_method_without_preparation_has_nothing_to_precompute():
    found = single_run.precompute(compose.compose(["method=unedited", "stream.edits=2"]))
    assert found.edits is None and found.seconds > 0


def test_a_stream_on_which_the_settings_were_tuned_is_refused_or_marked(make, tmp_path):  # noqa: F811
    records = datasets.from_config(make().dataset, None)
    hashes = record_hashes(records.records[:2], records.prompt_format)
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps({"trials": 30, "records": hashes, "settings": {"layer": 1}}))
    file.with_suffix(".yaml").write_text("# found\nlayer: 1\n")

    def tuned(*overrides):
        config = make(*overrides)
        return dataclasses.replace(config, method=dataclasses.replace(config.method, hparams="tuned", tuning=(file,)))

    with pytest.raises(CrossingError, match=r"hparams=tuned: rome was tuned on 2 records of the stream, "):
        single_run.run(tuned())
    config = tuned("dataset.split=all", "stream.edits=3")
    row = read_row(single_run.run(config).folder)
    assert (row["hparams"], row["tuned_on"], row["split"]) == ("tuned: 30 trials", 2, "all")
    (line,) = layout([row]).lines
    assert line[0].text == "rome, tuned: 30 trials"
    assert "never the best: tuned on 2 of these edits" in line[-1].text
    assert not any(cell.bold for cell in line)


def test_prompts_from_which_a_method_learns_may_not_test_it(make):  # noqa: F811
    method, prompt = ["method=scen", "method.layer=1"], "Person1 Maupoil speaks"
    with pytest.raises(CrossingError, match=rf"method.negatives\[0\], '{prompt}', is a prompt of record '1'"):
        single_run.run(make(f"method.negatives=['{prompt}']", method=method, settings=["stream.edits=6"]))


def test_texts_for_covariance_may_not_be_those_for_perplexity(make, tmp_path):  # noqa: F811
    with pytest.raises(CrossingError, match=r"model.texts\[0\], .* is the perplexity text plain\[0\] too"):
        single_run.run(make(f"dataset.plain_path={tmp_path / 'texts.txt'}"))


def test_a_run_of_the_same_name_with_other_settings_is_refused_with_both_values(make, monkeypatch):  # noqa: F811
    config = make("results.name=mine")
    RunFolder.create(config.folder.parent, "mine", yaml.safe_dump(config.deciding(), sort_keys=False)).close()
    said = r"another configuration \(stream.batch_size is 2 there, 3 here; stream.seed is \d+ there, 7 here\); choose"
    with pytest.raises(ValueError, match=said.replace("is 2 there", f"is {config.stream.batch_size} there")):
        single_run.run(make("results.name=mine", "stream.seed=7", "stream.batch_size=3"))
    monkeypatch.setattr(single_run, "SHOWN", 1)
    with pytest.raises(ValueError, match="3 here; and 1 more"):
        single_run.run(make("results.name=mine", "stream.seed=7", "stream.batch_size=3"))
