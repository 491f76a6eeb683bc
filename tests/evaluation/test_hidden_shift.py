"""Hidden states of facts that no edit touches: where they are read, how far they move, and the file that keeps them."""

import pytest
import torch

from editbench import EditRequest, single_run
from editbench import compose as composing_module
from editbench.evaluation.hidden_shift import HiddenShift
from editbench.files import read_tensors
from editbench.locate_then_edit.prompts import subject_row
from editbench.results.leaderboard import read_row
from editbench.results.schema import HIDDEN_SHIFT_FILE
from tests.evaluation.examples import Bystander
from tests.small_runs import REQUESTS, editor_of
from tests.tiny_models import tiny_lm

pytestmark = pytest.mark.model


def facts(lm):
    prompts = [("Lyon is in", "Lyon"), ("The mother tongue of Marcel Maupoil is", "Marcel Maupoil")]
    return [subject_row(lm, EditRequest(prompt, prompt, subject, "x")) for prompt, subject in prompts]


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_states_are_the_layers_output_at_the_subjects_last_token(architecture):
    """Against transformers' own hidden states, one prompt at a time."""
    lm = tiny_lm(architecture)
    found = HiddenShift(lm, facts(lm), layer=1).before
    for row, state in zip(facts(lm), found, strict=True):
        whole = lm.decoder(input_ids=torch.tensor([row.ids]), output_hidden_states=True).hidden_states
        torch.testing.assert_close(state, whole[2][0, row.subject].double(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["rome", "memit", "scen"])
def test_an_edit_moves_them_and_the_file_has_both(tmp_path, method):
    lm = tiny_lm("llama")
    editor = editor_of(method, lm)
    shift = HiddenShift(lm, facts(lm), max(editor.layers()))
    assert shift.measure(Bystander()) == 0.0
    editor.edit(REQUESTS[:2])
    moved = shift.measure(editor, tmp_path)
    tensors, metadata = read_tensors(tmp_path / HIDDEN_SHIFT_FILE)
    assert metadata == {"layer": shift.layer} and tensors["before"].shape == tensors["after"].shape == (
        2,
        lm.config.hidden_size,
    )
    change = (tensors["after"] - tensors["before"]).norm(dim=1) / tensors["before"].norm(dim=1)
    assert moved == pytest.approx(float(change.mean()), abs=1e-5)
    assert moved > 0 or method == "scen"  # whose neurons may not fire


def test_the_last_layer_of_each_method():
    lm = tiny_lm("gpt2")
    expected = {"unedited": None, "lora": None, "finetune": 1, "rome": 1, "memit": 1, "scen": 1, "melo": 2}
    assert {method: max(editor_of(method, lm).layers(), default=None) for method in expected} == expected


@pytest.mark.slow
def test_a_run_measures_saves_and_lists_them(tmp_path):
    overrides = ["method=rome", "method.layer=2", "stream.edits=3", "protocol.hidden_shift=5"]
    overrides.append(f"results.dir={tmp_path}")
    small = ["protocol.metrics=[exact_match,agreement]", "protocol.stages=[final]", "protocol.max_tokens=16"]
    config = composing_module.compose([*overrides, *small, "stream.evaluate_at=[2]"])
    folder = single_run.run(config).folder
    tensors, metadata = read_tensors(folder / HIDDEN_SHIFT_FILE)
    assert tensors["after"].shape == (5, 192) and metadata["layer"] == 2
    row = read_row(folder)
    assert row["status"] == "done" and 0 < row["final.texts.drift.hidden_shift"] < 1
    with pytest.raises(ValueError, match=r"protocol.hidden_shift asks facts of the split 'tune'"):
        single_run.run(composing_module.compose([*overrides, *small, "dataset.split=all"]))
