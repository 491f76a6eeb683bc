"""Covariance: one pass equals layer by layer; a collection that stopped goes on; the cache is by content."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from editbench import Resources
from editbench.costs import CachedCosts
from editbench.locate_then_edit import covariance
from editbench.locate_then_edit.covariance import compute_covariance, covariance_for, read_covariance
from tests.oracles import locate as oracle
from tests.tiny_models import LINES, TINY_ARCHITECTURES, tiny_lm

TEXTS = [*LINES, *(line[: 20 + i] for i, line in enumerate(LINES))]


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_one_pass_for_all_layers_equals_one_plain_pass_each(architecture):
    lm = tiny_lm(architecture, "float64", bos=True)
    found = compute_covariance(lm, TEXTS, [0, 1, 2])
    for layer, matrix in found.items():
        torch.testing.assert_close(
            matrix, oracle.covariance(lm, TEXTS, layer).double(), rtol=1e-5, atol=1e-6
        )  # some keep float32 inside
        assert matrix.dtype == torch.float64


def test_max_tokens_stops_after_the_text_that_reaches_it():
    lm = tiny_lm("gpt2")
    first = len(lm.encode(TEXTS[0]).ids)
    one = compute_covariance(lm, TEXTS, [1], max_tokens=first)
    assert torch.equal(one[1], compute_covariance(lm, TEXTS[:1], [1])[1])


@pytest.fixture
def often(monkeypatch):
    """Several batches, with the sums saved after each."""
    monkeypatch.setattr(covariance, "TOKENS_AT_ONCE", 40)
    monkeypatch.setattr(covariance, "MIN_INTERVAL", 0.0)
    monkeypatch.setattr(covariance, "MAX_SHARE", float("inf"))


def noted(monkeypatch, name, stop_at=None, error=KeyboardInterrupt):
    """The arguments of each call of one of the module's functions; the call with index ``stop_at`` fails."""
    function, calls = getattr(covariance, name), []

    def call(*arguments):
        if len(calls) == stop_at:
            raise error
        calls.append(arguments)
        return function(*arguments)

    monkeypatch.setattr(covariance, name, call)
    return calls


def partials(folder):
    return sorted(file.name for file in folder.rglob("partial-*"))


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_a_collection_that_stopped_goes_on_and_ends_with_the_same_bits(tmp_path, monkeypatch, often, stop_at):
    lm = tiny_lm("llama")
    whole = compute_covariance(lm, TEXTS, [0, 2])
    with monkeypatch.context() as patch:
        noted(patch, "_add_batch", stop_at)
        with pytest.raises(KeyboardInterrupt):
            compute_covariance(lm, TEXTS, [0, 2], cache=tmp_path)
    assert partials(tmp_path) == ["partial-000.safetensors", "partial-002.safetensors"]
    done, costs = noted(monkeypatch, "_add_batch"), CachedCosts()
    again = compute_covariance(lm, TEXTS, [0, 2], cache=tmp_path, costs=costs)
    assert all(torch.equal(again[layer], whole[layer]) for layer in whole)
    assert not partials(tmp_path)
    planned, _ = covariance._plan(lm, TEXTS, None)
    assert len(done) == len(planned) - stop_at > 0
    assert costs.read["covariance"] > 0 and costs.computed["covariance"] > 0
    later = CachedCosts()
    compute_covariance(lm, TEXTS, [0, 2], cache=tmp_path, costs=later)
    assert later.read["covariance"] == pytest.approx(costs.read["covariance"] + costs.computed["covariance"])


@pytest.mark.parametrize("written", range(6))
def test_a_failed_write_of_sums_or_of_the_end_loses_none(tmp_path, monkeypatch, often, written):
    """Files are those of two layers, batch by batch, so that a stop leaves layers at different batches."""
    lm = tiny_lm("gpt2")
    whole = compute_covariance(lm, TEXTS, [0, 2])
    with monkeypatch.context() as patch:
        noted(patch, "write_tensors", written, OSError("no space left on device"))
        with pytest.raises(OSError, match="no space"):
            compute_covariance(lm, TEXTS, [0, 2], cache=tmp_path)
    done = noted(monkeypatch, "_add_batch")
    again = compute_covariance(lm, TEXTS, [0, 2], cache=tmp_path)
    assert all(torch.equal(again[layer], whole[layer]) for layer in whole)
    if written % 2:
        assert list(done[0][2]) == [2] and list(done[1][2]) == [0, 2]  # only the layer that was behind
    assert not partials(tmp_path)


def test_sums_are_used_by_whoever_needs_their_layer(tmp_path, monkeypatch, often):
    lm = tiny_lm("gpt2")
    whole = compute_covariance(lm, TEXTS, [0, 1])
    with monkeypatch.context() as patch:
        noted(patch, "_add_batch", 4)
        with pytest.raises(KeyboardInterrupt):
            compute_covariance(lm, TEXTS, [1, 2], cache=tmp_path)
    again = compute_covariance(lm, TEXTS, [0, 1], cache=tmp_path)
    assert all(torch.equal(again[layer], whole[layer]) for layer in whole)
    assert partials(tmp_path) == ["partial-002.safetensors"]


def test_damaged_sums_are_collected_again(tmp_path, monkeypatch, often):
    lm = tiny_lm("gpt2")
    whole = compute_covariance(lm, TEXTS, [1])
    with monkeypatch.context() as patch:
        noted(patch, "_add_batch", 2)
        with pytest.raises(KeyboardInterrupt):
            compute_covariance(lm, TEXTS, [1], cache=tmp_path)
    (file,) = tmp_path.rglob("partial-*")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.warns(UserWarning, match="partial-001.safetensors are damaged"):
        again = compute_covariance(lm, TEXTS, [1], cache=tmp_path)
    assert torch.equal(again[1], whole[1])


def test_the_cache_is_found_by_content_and_only_then(tmp_path, monkeypatch):
    lm = tiny_lm("gpt2")
    made = compute_covariance(lm, TEXTS, [0, 1], cache=tmp_path)
    collect, calls = covariance._collect, []
    monkeypatch.setattr(covariance, "_collect", lambda *a: calls.append(1) or collect(*a))
    found = compute_covariance(lm, TEXTS, [1], cache=tmp_path)
    assert not calls
    assert torch.equal(found[1], made[1])
    compute_covariance(lm, TEXTS[:-1], [1], cache=tmp_path)
    compute_covariance(tiny_lm("gpt2", seed=1), TEXTS, [1], cache=tmp_path)
    compute_covariance(tiny_lm("gpt2", attention="eager"), TEXTS, [1], cache=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("transformers.__version__", "5.99")
        compute_covariance(lm, TEXTS, [1], cache=tmp_path)
    assert len(calls) == 4
    file = next(tmp_path.rglob("layer-001.safetensors"))
    for file in tmp_path.rglob("layer-001.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"layer-001\.safetensors is damaged.*computed again"):
        again = compute_covariance(lm, TEXTS, [1], cache=tmp_path)
    assert len(calls) == 5 and torch.equal(again[1], made[1])
    compute_covariance(lm, TEXTS, [1], cache=tmp_path)
    assert len(calls) == 5


COLLECTING = """
import sys, time
from pathlib import Path
from editbench.locate_then_edit import covariance
from tests.tiny_models import LINES, tiny_lm

def slowly(lm, planned, layers, folder, collect=covariance._collect):
    print(*layers)
    time.sleep(2)
    return collect(lm, planned, layers, folder)

covariance._collect = slowly
lm, folder = tiny_lm("gpt2"), Path(sys.argv[1])
(folder / f"ready {sys.argv[2]}").touch()
while len(list(folder.glob("ready *"))) < 2:
    time.sleep(0.01)
covariance.compute_covariance(lm, LINES, [int(layer) for layer in sys.argv[2]], cache=folder)
"""


def test_two_processes_collect_no_layer_twice(tmp_path):
    """Layers 0 and 1, and 1 and 2: whoever is second waits, and adds what is missing."""
    begun = [
        subprocess.Popen([sys.executable, "-c", COLLECTING, tmp_path, layers], stdout=-1, stderr=-1, text=True)
        for layers in ("01", "12")
    ]
    ended = [process.communicate(timeout=300) for process in begun]
    assert [process.returncode for process in begun] == [0, 0], ended
    assert sorted(layer for out, _ in ended for layer in out.split()) == ["0", "1", "2"]
    assert ["waiting for it" in error for _, error in ended].count(True) == 1


def test_a_folder_without_locks_is_no_obstacle(tmp_path, monkeypatch, caplog):
    def acquire(*_, **__):
        raise NotImplementedError("no flock here")

    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    lm = tiny_lm("gpt2")
    assert torch.equal(compute_covariance(lm, TEXTS, [1], cache=tmp_path)[1], compute_covariance(lm, TEXTS, [1])[1])
    assert "cannot be locked (no flock here)" in caplog.text


def test_activations_that_overflow_are_told_and_not_cached(tmp_path):
    lm = tiny_lm("gpt2", "float16")
    lm.layers[1].mlp.c_fc.bias.data[3] = 65504.0
    lm.layers[1].mlp.c_fc.weight.data[:, 3] = 65504.0
    with pytest.raises(ValueError, match=r"covariance of layer 1 of .* overflow in torch\.float16"):
        compute_covariance(lm, TEXTS, [1], cache=tmp_path)
    assert not list(tmp_path.rglob("layer-*"))


def test_covariance_that_the_user_gives(tmp_path):
    lm = tiny_lm("gpt2")
    made = compute_covariance(lm, TEXTS, [0, 1])
    file = tmp_path / "given.safetensors"
    save_file({str(layer): covariance for layer, covariance in made.items()}, file)
    by_text = {str(layer): matrix.numpy() for layer, matrix in made.items()}
    for given in (made, by_text, file, str(file)):
        found = covariance_for(lm, [1], Resources(covariance=given), None)
        assert torch.equal(found[1], made[1])
    with pytest.raises(ValueError, match="none for 2"):
        read_covariance(file, [2])
    with pytest.raises(ValueError, match="no covariance was given for layer 2"):
        covariance_for(lm, [2], Resources(covariance=made), None)
    with pytest.raises(ValueError, match=r"must be \(48, 48\)"):
        covariance_for(lm, [0], Resources(covariance={0: torch.eye(3)}), None)
    with pytest.raises(ValueError, match=r"covariance of Resources: 0 \(48, 48\) is not symmetric"):
        covariance_for(lm, [0], Resources(covariance={0: torch.ones(48, 48).triu()}), None)
    with pytest.raises(TypeError, match="covariance of Resources is Tensor; give matrices by layer, or a file"):
        covariance_for(lm, [0], Resources(covariance=made[0]), None)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_covariance(tmp_path / "nowhere", [0])
    with pytest.raises(ValueError, match="plain text"):
        covariance_for(lm, [0], Resources(), None)
