"""NSE beside the plain way of doing the same: values, rounds, neurons, memory and cache."""

import pytest
import torch

from editbench import Resources, make_editor
from editbench.methods.nse.editor import select_neurons
from editbench.records import EditError
from tests.edits import TEMPLATES, edits
from tests.methods.locate_then_edit import ARCHITECTURES, LAYERS, NORMED, VALUE, agree, distances, make
from tests.oracles import locate as oracle
from tests.small_runs import architectures, covariance
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize("prepared", [True, False], ids=["prepared", "on demand"])
@pytest.mark.parametrize("threshold", [1.0, 0.7])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nse(architecture, threshold, prepared):
    lm, other = (tiny_lm(architecture, "float64", bos=True) for _ in range(2))
    settings = {"alpha": 0.05, "upper_bound": 50.0, "max_iterations": 3, "neuron_threshold": threshold}
    editor, batches = make("nse", lm, layers=LAYERS, covariance_weight=2.0, **settings), [edits(6)[:4], edits(6)[4:]]
    if prepared:
        editor.prepare(edits(6))
    for batch in batches:
        result = editor.edit(batch)
        assert len(result.details["rounds"]) == 2

    def pick(keys):
        index = select_neurons(keys, threshold, "published")
        return torch.arange(len(keys)) if index is None else index

    oracle.nse(other, batches, TEMPLATES, covariance(lm), editor.config, pick)
    agree(lm, other, LAYERS)


@pytest.mark.parametrize("layers", [[1], [0, 1]], ids=["one layer", "two layers"])
@pytest.mark.parametrize("architecture", architectures(["llama", *NORMED]))
def test_nse_reaches_its_values_in_every_batch(architecture, layers):
    """Values belong to the original weights; the second batch is written on those that the first has left."""
    lm, requests = tiny_lm(architecture, "float64", bos=True), edits(6)
    resources = Resources(templates=TEMPLATES[:1], covariance=covariance(lm))
    settings = {"alpha": 0.0, "upper_bound": 1e9, "max_iterations": 2, "memory": "none", "covariance_weight": 1e-6}
    editor = make_editor("nse", lm, resources=resources, layers=layers, **settings, **VALUE)
    editor.prepare(requests)
    for batch in (requests[:3], requests[3:]):
        targets = torch.stack([editor.values[r].target for r in batch], 1)
        begun = distances(lm, batch, targets, layers[-1])
        result = editor.edit(batch)
        assert result.details["rounds"][0]["distances"] == pytest.approx(begun.tolist(), rel=1e-5)
        assert bool((distances(lm, batch, targets, layers[-1]) < 0.01 * begun).all())


def test_without_its_mechanisms_it_is_memit():
    lm, other = (tiny_lm("llama", "float64") for _ in range(2))
    off = {"rewind": False, "memory": "none", "max_iterations": 2, "alpha": 0.0, "upper_bound": 1e9}
    editor = make("nse", lm, layers=LAYERS, covariance_weight=2.0, **off)
    memit = make("memit", other, layers=LAYERS, covariance_weight=2.0)
    editor.prepare(edits(6))
    assert not editor.values._found
    for batch in (edits(6)[:3], edits(6)[3:]):
        assert editor.edit(batch).losses == memit.edit(batch).losses
    for layer in LAYERS:
        assert torch.equal(lm.weight(lm.mlp_out_name(layer)), other.weight(other.mlp_out_name(layer)))


def test_rewinding_decides_values_after_the_first_batch():
    batches, found = [edits(6)[:3], edits(6)[3:]], []
    for rewind in (True, False):
        editor = make("nse", tiny_lm("llama"), layers=LAYERS, alpha=0.0, upper_bound=1e9, rewind=rewind)
        found.append([editor.edit(batch).losses for batch in batches])
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]


def test_selection_rules():
    keys = torch.tensor([[4.0], [-3.0], [2.0], [1.0]])
    assert select_neurons(keys, 0.69, "published").tolist() == [0]
    assert select_neurons(keys, 0.69, "smallest").tolist() == [0, 1]
    assert select_neurons(keys, 0.70, "published").tolist() == [0, 1]
    assert select_neurons(keys, 0.70, "smallest").tolist() == [0, 1]
    assert select_neurons(keys, 0.1, "published").tolist() == []
    assert select_neurons(keys, 1.0, "published") is None


@pytest.mark.parametrize(("memory", "columns"), [("all", 4), ("kept", 2), ("none", 0)])
def test_memory(memory, columns):
    lm = tiny_lm("gpt2")
    editor = make("nse", lm, layers=LAYERS, memory=memory, alpha=0.0, upper_bound=1e9)
    editor.prepare(edits(4))
    targets = torch.stack([editor.values[r].target for r in edits(4)], 1)
    distances = (targets - oracle.hidden(lm, edits(4), 1)).norm(dim=0).sort().values
    editor.config.alpha = float(distances[1:3].mean())  # two of four edits take part
    editor.edit(edits(4))
    assert [solver.keys.shape[1] for solver in editor.memory.key_solvers.values()] == [columns] * 2


def test_rolled_back_edits_are_forgotten():
    lm, settings = tiny_lm("gpt2"), {"layers": LAYERS, "alpha": 0.0, "upper_bound": 1e9}
    editor = make("nse", lm, **settings)
    editor.edit(edits(4)[:2])
    once = lm.weight(lm.mlp_out_name(1)).clone()
    editor.edit(edits(4)[2:])
    twice = lm.weight(lm.mlp_out_name(1)).clone()
    editor.ledger.rollback(1)
    assert torch.equal(lm.weight(lm.mlp_out_name(1)), once)
    editor.edit(edits(4)[2:])
    assert torch.equal(lm.weight(lm.mlp_out_name(1)), twice)


def test_memory_is_compacted_and_then_cannot_forget_single_batches():
    lm = tiny_lm("gpt2")  # d_ff is 48
    editor = make("nse", lm, layers=LAYERS, alpha=0.0, upper_bound=1e9, steps=1, weight_decay=0.0)
    sizes = []
    for start in range(0, 65, 13):
        editor.edit(edits(65)[start : start + 13])
        sizes.append(editor.memory.key_solvers[0].keys.shape[1])
    assert sizes == [13, 26, 13, 26, 13]  # compacted once they are 24
    assert editor.footprint().host > 0
    editor.ledger.rollback(2)
    with pytest.raises(EditError, match="restore the state"):
        editor.edit(edits(1))


def test_an_edit_that_fails_ahead_of_time_fails_when_its_turn_comes():
    lm, requests = tiny_lm("llama"), edits(4)
    lm.model.get_input_embeddings().weight.data[lm.encode("Toko").ids[0]] = float("nan")
    editor = make("nse", lm, layers=LAYERS, alpha=0.0, upper_bound=1e9)
    editor.prepare(requests)
    editor.edit([requests[0]])
    with pytest.raises(EditError, match="edit-1"):
        editor.edit([requests[1]])
    assert editor.ledger.edited_ids == ["edit-0"]
