"""Keys and hidden states at the subject, beside the whole model one edit at a time."""

import pytest

from editbench import EditRequest
from editbench.editor import EditError
from editbench.locate_then_edit.keys import SubjectPass
from editbench.locate_then_edit.multi_layer import EditKeys
from editbench.locate_then_edit.prompts import subject_row
from tests.edits import TEMPLATES, edits
from tests.oracles import locate as oracle
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm


def close(found, wanted, dtype="float64"):
    return float((found - wanted).norm() / wanted.norm()) < {"float32": 1e-5, "float64": 1e-6}[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_keys_and_hidden_states(architecture, dtype):
    lm, requests = tiny_lm(architecture, dtype, bos=architecture != "gpt2"), edits(9)
    subjects = EditKeys.of(lm, requests, TEMPLATES, [0, 1])
    keys = subjects.keys()
    for layer in (0, 1):
        wanted = oracle.keys(lm, requests, TEMPLATES, layer)
        assert close(keys[layer], wanted, dtype)
        assert close(subjects.at(layer).keys, wanted, dtype)
    assert close(subjects.at(1).hidden, oracle.hidden(lm, requests, 1), dtype)
    assert close(subjects.hidden(), oracle.hidden(lm, requests, 1), dtype)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "opt"])
def test_everything_that_can_be_measured(architecture):
    lm = tiny_lm(architecture, "float64")
    rows = [subject_row(lm, r, t) for r in edits() for t in TEMPLATES]
    seen = SubjectPass.of(lm, rows).measure(inputs=[0, 2], mlp=[1, 2], outputs=[0, 2], keep=1)
    for layer in (0, 2):
        assert close(seen.inputs[layer], oracle.at_subject(lm, rows, lm.mlp_out(layer), inputs=True))
        assert close(seen.outputs[layer], oracle.at_subject(lm, rows, lm.layers[layer]))
    for layer in (1, 2):
        assert close(seen.mlp[layer], oracle.at_subject(lm, rows, lm.mlp_out(layer)))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_measurements_go_on_where_weights_have_changed(architecture):
    lm, requests = tiny_lm(architecture, "float64"), edits()
    subjects = EditKeys.of(lm, requests, TEMPLATES, [0, 1, 2])
    some = [4, 1]
    for _ in range(2):
        part = subjects.select(some)
        for layer in (0, 1, 2):
            seen, chosen = part.at(layer), [requests[i] for i in some]
            assert close(seen.keys, oracle.keys(lm, chosen, TEMPLATES, layer))
            assert close(seen.hidden, oracle.hidden(lm, chosen, 2))
            lm.weight(lm.mlp_out_name(layer)).mul_(1.1)
            part.changed(layer)
        subjects.changed(0)
        assert close(subjects.hidden(), oracle.hidden(lm, requests, 2))
    keys = subjects.keys()
    assert all(close(keys[layer], oracle.keys(lm, requests, TEMPLATES, layer)) for layer in (0, 1, 2))


def test_a_layer_can_be_measured_again_and_again():
    lm, requests = tiny_lm("llama", "float64"), edits()
    subjects = EditKeys.of(lm, requests, TEMPLATES, [0, 2])
    for layer in (0, 2, 2, 2):
        assert close(subjects.at(layer).hidden, oracle.hidden(lm, requests, 2))


def test_one_template_gives_the_bare_key():
    lm = tiny_lm("gpt2", "float64")
    keys = EditKeys.of(lm, edits(), TEMPLATES[:1], [1]).keys()[1]
    assert close(keys, oracle.keys(lm, edits(), TEMPLATES[:1], 1))


def test_chunks_give_the_same(monkeypatch):
    lm = tiny_lm("llama", "float64")
    whole = EditKeys.of(lm, edits(12), TEMPLATES, [1]).keys()[1]
    monkeypatch.setattr("editbench.locate_then_edit.keys.TOKENS_AT_ONCE", 40)
    assert close(EditKeys.of(lm, edits(12), TEMPLATES, [1]).keys()[1], whole)


def test_keys_that_are_not_finite_name_their_edits():
    lm, requests = tiny_lm("gpt2"), edits()
    lm.model.get_input_embeddings().weight.data[lm.encode("Toko").ids[0]] = float("nan")
    with pytest.raises(EditError, match="edit-1 failed: the hidden states of layer 1 are NaN"):
        EditKeys.of(lm, requests, TEMPLATES, [0, 1]).hidden()


def test_requests_with_the_same_prompt():
    lm = tiny_lm("gpt2", "float64")
    twice = [EditRequest(str(i), "Toko Yasuda plays", "Toko Yasuda", "guitar") for i in range(3)]
    keys = EditKeys.of(lm, twice, TEMPLATES, [1]).keys()[1]
    assert close(keys, oracle.keys(lm, twice, TEMPLATES, 1))
