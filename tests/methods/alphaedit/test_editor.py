"""AlphaEdit beside the plain way of doing the same; its null space in the results; its state and its covariance."""

import pytest
import torch

from editbench import Resources, make_editor
from tests.edits import TEMPLATES, edits
from tests.methods.locate_then_edit import LAYERS, VALUE, agree, make
from tests.oracles import memit_family as oracle
from tests.small_runs import architectures, covariance
from tests.tiny_models import tiny_lm

SETTINGS = {"layers": LAYERS, "nullspace_threshold": 1.0, "l2": 0.5}


@pytest.mark.parametrize("architecture", architectures(("gpt2", "llama", "qwen3", "gptj")))
def test_alphaedit(architecture):
    """Three batches, the last of them after the keys were compacted (d_ff is 48)."""
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    editor, batches = make("alphaedit", lm, **SETTINGS), [edits(33)[:4], edits(33)[4:30], edits(33)[30:]]
    for batch in batches:
        editor.edit(batch)
    assert all(solver.compacted for solver in editor.memory.key_solvers.values())
    oracle.alphaedit(other, batches, TEMPLATES, covariance(lm), editor.config)
    agree(lm, other, LAYERS)


def test_what_is_left_out_is_not_changed():
    lm = tiny_lm("gpt2", "float64")
    editor = make("alphaedit", lm, **SETTINGS)
    result = editor.edit(edits(4))
    for layer in LAYERS:
        values, vectors = torch.linalg.eigh(covariance(lm)[layer])
        change = editor.ledger.delta(lm.mlp_out_name(layer))
        assert float((change @ vectors[:, values >= 1.0]).norm() / change.norm()) < 1e-9
        assert result.details["null_space"][str(layer)] == pytest.approx(float((values < 1.0).double().mean()))


@pytest.mark.parametrize(("threshold", "meaning"), [(1e-9, "no edit can be written"), (1e9, "nothing is protected")])
def test_an_empty_or_whole_null_space_is_warned_of(threshold, meaning, caplog):
    make("alphaedit", tiny_lm("gpt2"), **{**SETTINGS, "nullspace_threshold": threshold}).prepare([])
    assert caplog.text.count(meaning) == 2 and "directions of layer 1 are below nullspace_threshold" in caplog.text


def test_a_state_belongs_to_its_covariance():
    editor = make("alphaedit", tiny_lm("gpt2"), **SETTINGS)
    assert editor.state() == {}
    editor.edit(edits(4))
    state = editor.state()
    same = make("alphaedit", tiny_lm("gpt2"), **SETTINGS)
    same.restore(state)
    assert torch.equal(same.state()["covariance"], state["covariance"])
    lm = tiny_lm("gpt2")
    resources = Resources(templates=TEMPLATES, covariance=covariance(lm, seed=7))
    other = make_editor("alphaedit", lm, resources=resources, **SETTINGS, **VALUE)
    with pytest.raises(ValueError, match="projected by another covariance"):
        other.restore(state)
    with pytest.raises(ValueError, match="projected by another covariance"):
        other.restore({name: tensor for name, tensor in state.items() if name != "covariance"})
