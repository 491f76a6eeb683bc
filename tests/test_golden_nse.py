"""NSE against the published code's numbers: two batches of three edits, up to two rounds each, neurons selected."""

import pytest
import torch

from editbench import make_editor
from editbench.methods.nse.editor import select_neurons
from tests.golden_edits import furthest, golden, golden_lm, relative

LAYERS = (2, 3, 4)


def nse(lm, **other):
    gold = golden("nse-gpt2")
    return make_editor("nse", lm, resources=gold.resources, **{**gold.settings, **other})


@pytest.mark.parametrize("precompute", [True, False], ids=["values ahead", "values on demand"])
def test_nse(precompute):
    gold, lm = golden("nse-gpt2"), golden_lm()
    editor = nse(lm)
    if precompute:
        editor.prepare(gold.requests)
    for b, batch in enumerate(gold.data["batches"]):
        requests = gold.requests[3 * b : 3 * b + 3]
        result = editor.edit(requests)
        for request in requests:
            assert furthest(result.losses[request.id], gold.data["losses"][int(request.id)]) < 1e-4
        check_rounds(result.details["rounds"], batch, [r.id for r in requests])
        check_changes(b, editor.ledger.entries[b].changes)
        for i, layer in enumerate(LAYERS):
            keys = editor.memory.key_solvers[layer].keys
            assert keys.shape[1] == 3 * (b + 1)
            assert relative(keys[:, -3:], gold.tensors[f"batch{b}.final.layer{layer}.layer_ks"]) < 1e-4
            norm = float((keys @ keys.T).norm())
            assert norm == pytest.approx(gold.data["memory_norms"][f"batch{b}.cache_c"][i], rel=1e-5)


def check_rounds(rounds, batch, ids):
    assert len(rounds) == len(batch["iterations"])
    for m, (found, wanted) in enumerate(zip(rounds, batch["iterations"], strict=True)):
        assert found["kept"] == [i for i, kept in zip(ids, wanted["mask"], strict=True) if kept]
        assert found["distances"] == pytest.approx(wanted["error_norm"], rel=1e-3, abs=1e-4)
        counts = {str(x["layer"]): x["n_selected"] for x in batch["layers"] if x["iteration"] == m}
        assert found["neurons"] == counts


def check_changes(b, changes):
    tensors = golden("nse-gpt2").tensors
    heads = sorted({k.rpartition(".")[0] for k in tensors if k.startswith(f"batch{b}.it")})
    assert len(changes) == len(heads)  # rounds in order, layers in order within each
    for head, change in zip(heads, changes, strict=True):
        index = tensors[head + ".neuron_indices"].long()
        layer = int(head[-1])
        residual = tensors[head + ".targets"] / (len(LAYERS) - LAYERS.index(layer))
        delta = residual @ tensors[head + ".adj_k"].T
        assert set(change.right.any(1).nonzero()[:, 0].tolist()) == set(index.tolist())
        assert relative((change.left @ change.right.T)[:, index], delta) < 1e-3


def test_selected_neurons_are_the_published_ones_in_their_order():
    gold = golden("nse-gpt2")
    for name, keys in gold.tensors.items():
        if name.endswith("layer_ks") and ".it" in name:
            wanted = gold.tensors[name.replace("layer_ks", "neuron_indices")].long()
            assert torch.equal(select_neurons(keys, 0.8, "published"), wanted)
            assert torch.equal(select_neurons(keys, 0.8, "smallest")[:-1], wanted)


def test_threshold_one_takes_every_neuron():
    lm = golden_lm()
    editor = nse(lm, neuron_threshold=1.0)
    result = editor.edit(golden("nse-gpt2").requests[:3])
    assert result.details["rounds"][0]["neurons"] == {"2": 256, "3": 256, "4": 256}
