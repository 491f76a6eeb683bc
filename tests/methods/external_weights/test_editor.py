"""External weights are scored as they are, and locality is compared with the base model."""

import json

import pytest
import torch

from editbench import compose as composing_module
from editbench import single_run
from editbench.editor import Editor
from editbench.ledger import Ledger
from editbench.methods.external_weights import ExternalWeights, ExternalWeightsConfig
from editbench.records import EditRequest
from editbench.results.leaderboard import read_row
from tests.small_runs import save_model
from tests.tiny_models import tiny_lm

REQUESTS = [EditRequest(f"r{i}", f"Place {i} is in", None, "Spain") for i in range(3)]


def edited_folder(folder, architecture="gpt2", dtype="float32"):
    """A model whose weights were changed all over, saved as a user has it."""
    lm = tiny_lm(architecture, dtype)
    generator = torch.Generator().manual_seed(1)
    for parameter in lm.model.parameters():
        parameter.data.add_((torch.randn(parameter.shape, generator=generator) * 0.1).to(parameter))
    lm.model.save_pretrained(folder)
    return lm


def editor_of(lm, path, ledger=None):
    return ExternalWeights(lm, Ledger(lm) if ledger is None else ledger, ExternalWeightsConfig(path=str(path)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt"])
def test_the_model_gets_the_weights_bit_for_bit(architecture, dtype, tmp_path):
    wanted = edited_folder(tmp_path / "edited", architecture, dtype)
    lm = tiny_lm(architecture, dtype)
    before = {name: p.clone() for name, p in lm.model.named_parameters()}
    editor = editor_of(lm, tmp_path / "edited")
    result = editor.edit(REQUESTS[:2])
    assert result.applied == ["r0", "r1"]
    assert set(result.details["changed_weights"]) == set(before)
    for name, parameter in wanted.model.named_parameters():
        assert torch.equal(lm.model.get_parameter(name), parameter), name
    again = editor.edit(REQUESTS[2:])
    assert again.applied == ["r2"] and again.details == {}
    editor.ledger.rollback()
    assert all(torch.equal(lm.model.get_parameter(name), tensor) for name, tensor in before.items())
    assert set(editor.edit(REQUESTS).details["changed_weights"]) == set(before)


def test_a_resumed_run_has_them_already(tmp_path):
    edited_folder(tmp_path / "edited")
    first = tiny_lm("gpt2")
    editor_of(first, tmp_path / "edited", Ledger(first, tmp_path / "ledger")).edit(REQUESTS[:1])
    lm = tiny_lm("gpt2")
    ledger = Ledger(lm, tmp_path / "ledger")
    ledger.replay()
    assert editor_of(lm, tmp_path / "edited", ledger).edit(REQUESTS[1:]).details == {}
    assert torch.equal(lm.mlp_out(1).weight, first.mlp_out(1).weight)


def test_the_folder_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    edited_folder(tmp_path / "edited")
    editor = editor_of(tiny_lm("gpt2"), "~/edited")
    editor.prepare(REQUESTS)
    assert editor.edit(REQUESTS).details["changed_weights"]
    with pytest.raises(FileNotFoundError, match=f"there is no folder {tmp_path / 'nowhere'}"):
        editor_of(tiny_lm("gpt2"), "~/nowhere").prepare(REQUESTS)


def test_other_weights_are_refused(tmp_path):
    lm = tiny_lm("gpt2")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        editor_of(lm, tmp_path / "nowhere").prepare(REQUESTS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no model could be loaded"):
        editor_of(lm, tmp_path / "empty").edit(REQUESTS)
    tiny_lm("llama").model.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="is no edited tiny-gpt2: .* parameters differ in name or shape"):
        editor_of(lm, tmp_path / "other").edit(REQUESTS)
    assert lm.fingerprint == tiny_lm("gpt2").fingerprint


def test_weights_that_change_nothing_are_warned_of(tmp_path, caplog):
    tiny_lm("gpt2").model.save_pretrained(tmp_path / "same")
    editor = editor_of(tiny_lm("gpt2"), tmp_path / "same")
    assert editor.edit(REQUESTS[:1]).details == {"changed_weights": []}
    editor.edit(REQUESTS[1:])
    assert caplog.text.count(f"no weight of {tmp_path / 'same'} differs from the base model's") == 1


@pytest.mark.slow
def test_own_records_and_external_weights_through_everything(tmp_path):
    save_model(tiny_lm("gpt2"), tmp_path / "base")
    edited_folder(tmp_path / "edited")
    rows = [
        {
            "prompt": f"The mother tongue of Person{i} is",
            "subject": f"Person{i}",
            "target": "French",
            "target_true": "Polish",
            "paraphrases": [f"Person{i} speaks"],
            "neighbours": [{"prompt": f"The mother tongue of Other{i} is", "target": "Polish"}, {"prompt": "Rome is"}],
            "subject_facts": [{"prompt": f"Person{i} lives in", "target": "Rome"}],
        }
        for i in range(2)
    ]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "plain.txt").write_text("Toko Yasuda plays the guitar.\nGoogle works with Microsoft.")
    config = composing_module.compose(
        [
            *("method=external_weights", f"method.path={tmp_path / 'edited'}", f"model.path={tmp_path / 'base'}"),
            *(
                "dataset=custom",
                f"dataset.path={tmp_path / 'own.jsonl'}",
                f"dataset.plain_path={tmp_path / 'plain.txt'}",
            ),
            *("stream.edits=2", f"results.dir={tmp_path / 'results'}", f"cache={tmp_path / 'cache'}"),
        ]
    )
    row = read_row(single_run.run(config).folder)
    assert row["method"] == "external_weights" and row["scored"] == 2
    for measure in ("rewrite", "paraphrase", "locality", "subject_fact"):
        assert row[f"final.{measure}.generation"] is not None
    assert row["final.locality.agreement"] < 1 and row["final.subject_fact.agreement"] is not None
    assert row["perplexity_after"] != row["perplexity_before"]
    assert issubclass(ExternalWeights, Editor)
