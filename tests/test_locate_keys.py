"""Keys and hidden states at the subject, beside the whole model one edit at a time."""

import pytest
import torch

from editbench import EditRequest
from editbench.editor import EditError
from editbench.locate_then_edit.keys import SubjectPass
from editbench.locate_then_edit.multi_layer import Subjects
from editbench.locate_then_edit.prompts import subject_row
from editbench.model.batching import partition
from editbench.model.prefix_cache import LEAST_SHARED, Heads, place
from tests.edits import TEMPLATES, edits
from tests.oracles import locate as oracle
from tests.zoo import ARCHITECTURES, tiny_host

CPU = torch.device("cpu")


def close(found, wanted, dtype="float64"):
    return float((found - wanted).norm() / wanted.norm()) < {"float32": 1e-5, "float64": 1e-6}[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_keys_and_hidden_states(architecture, dtype):
    host, requests = tiny_host(architecture, dtype, bos=architecture != "gpt2"), edits(9)
    subjects = Subjects(host, requests, TEMPLATES, [0, 1])
    keys = subjects.keys()
    for layer in (0, 1):
        wanted = oracle.keys(host, requests, TEMPLATES, layer)
        assert close(keys[layer], wanted, dtype)
        assert close(subjects.at(layer).keys, wanted, dtype)
    assert close(subjects.at(1).hidden, oracle.hidden(host, requests, 1), dtype)
    assert close(subjects.hidden(), oracle.hidden(host, requests, 1), dtype)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "opt"])
def test_everything_that_can_be_measured(architecture):
    host = tiny_host(architecture, "float64")
    rows = [subject_row(host, r, t) for r in edits() for t in TEMPLATES]
    seen = SubjectPass(host, rows).measure(inputs=[0, 2], mlp=[1, 2], outputs=[0, 2], keep=1)
    for layer in (0, 2):
        assert close(seen.inputs[layer], oracle.at_subject(host, rows, host.mlp_out(layer), inputs=True))
        assert close(seen.outputs[layer], oracle.at_subject(host, rows, host.layers[layer]))
    for layer in (1, 2):
        assert close(seen.mlp[layer], oracle.at_subject(host, rows, host.mlp_out(layer)))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_measurements_go_on_where_weights_have_changed(architecture):
    host, requests = tiny_host(architecture, "float64"), edits()
    subjects = Subjects(host, requests, TEMPLATES, [0, 1, 2])
    some = [4, 1]
    for _ in range(2):
        part = subjects.narrow(some)
        for layer in (0, 1, 2):
            seen, chosen = part.at(layer), [requests[i] for i in some]
            assert close(seen.keys, oracle.keys(host, chosen, TEMPLATES, layer))
            assert close(seen.hidden, oracle.hidden(host, chosen, 2))
            host.weight(host.mlp_out_name(layer)).mul_(1.1)
            part.changed(layer)
        subjects.changed(0)
        assert close(subjects.hidden(), oracle.hidden(host, requests, 2))
    keys = subjects.keys()
    assert all(close(keys[layer], oracle.keys(host, requests, TEMPLATES, layer)) for layer in (0, 1, 2))


def test_a_layer_can_be_measured_again_and_again():
    host, requests = tiny_host("llama", "float64"), edits()
    subjects = Subjects(host, requests, TEMPLATES, [0, 2])
    for layer in (0, 2, 2, 2):
        assert close(subjects.at(layer).hidden, oracle.hidden(host, requests, 2))


def test_one_template_gives_the_bare_key():
    host = tiny_host("gpt2", "float64")
    keys = Subjects(host, edits(), TEMPLATES[:1], [1]).keys()[1]
    assert close(keys, oracle.keys(host, edits(), TEMPLATES[:1], 1))


def test_chunks_give_the_same(monkeypatch):
    host = tiny_host("llama", "float64")
    whole = Subjects(host, edits(12), TEMPLATES, [1]).keys()[1]
    monkeypatch.setattr("editbench.locate_then_edit.keys.TOKENS_AT_ONCE", 40)
    assert close(Subjects(host, edits(12), TEMPLATES, [1]).keys()[1], whole)


def test_keys_that_are_not_finite_name_their_edits():
    host, requests = tiny_host("gpt2"), edits()
    host.model.get_input_embeddings().weight.data[host.encode("Toko").ids[0]] = float("nan")
    with pytest.raises(EditError, match="edit-1 failed: the hidden states of layer 1 are NaN"):
        Subjects(host, requests, TEMPLATES, [0, 1]).hidden()


def test_requests_with_the_same_prompt():
    host = tiny_host("gpt2", "float64")
    twice = [EditRequest(str(i), "Toko Yasuda plays", "Toko Yasuda", "guitar") for i in range(3)]
    keys = Subjects(host, twice, TEMPLATES, [1]).keys()[1]
    assert close(keys, oracle.keys(host, twice, TEMPLATES, 1))


# -- what rows share, and which rows go together ---------------------


def test_heads_hold_what_all_rows_of_a_cluster_begin_with():
    rows = [(1, 2, 3, 4, 5, 6), (9, 8, 7), (1, 2, 3, 4, 5, 7, 8), (1, 2, 3, 4, 0), (9, 8, 7)]
    heads = Heads.of(rows)
    assert heads.tokens == [(1, 2, 3, 4)]
    assert heads.shared == [4, 0, 4, 4, 0]  # three tokens are fewer than LEAST_SHARED
    assert LEAST_SHARED == 4
    assert Heads.of([(1, 2, 3, 4, 5)]).tokens == []  # nobody to share with


def test_place_puts_heads_as_far_right_as_they_can_stand():
    assert place([3, 1, 0], 3, CPU).tolist() == [[0, 1, 2], [0, 0, 0], [0, 0, 0]]
    assert place([2], 4, CPU).tolist() == [[0, 0, 0, 1]]


def test_partition_saves_padding_when_that_pays():
    assert partition([2] * 100 + [8] * 100, CPU) == [list(range(100)), list(range(100, 200))]
    assert partition([2, 8, 3], CPU) == [[0, 1, 2]]
    assert sorted(i for part in partition([5, 1, 900, 4, 70], CPU, most=100) for i in part) == [0, 1, 2, 3, 4]
    assert [len(part) for part in partition([10] * 25, CPU, most=100)] == [10, 10, 5]
