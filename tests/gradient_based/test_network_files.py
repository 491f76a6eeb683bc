"""Files of trained networks: found in the cache or in a package, by all that decided the training."""

import pytest
import torch

from editbench.files import DamagedFile, write_tensors
from editbench.gradient_based import network_files
from tests.tiny_models import tiny_lm

DECIDING = {"method": "MEND", "weights": "w", "records": "r"}


def write(file, **changed):
    file.parent.mkdir(parents=True, exist_ok=True)
    facts = {"key": {**DECIDING, **changed}, "records": {}, "seconds": 1.0, "history": []}
    return write_tensors(file, {"network/x": torch.ones(1)}, facts)


def test_the_cache_comes_first_then_the_package(tmp_path):
    cache, shipped = tmp_path / "cache", tmp_path / "networks"
    assert network_files.find(cache, shipped, DECIDING) is None
    digest = write(shipped / "pocket.safetensors")
    found = network_files.find(cache, shipped, DECIDING)
    assert (found.digest, found.name) == (digest, "networks/pocket.safetensors")
    own = network_files.cached_file(cache, DECIDING)
    write(own)
    assert network_files.find(cache, shipped, DECIDING).name == f"networks/{own.name}"
    own.write_bytes(own.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="is damaged .*; train it again"):
        assert network_files.find(cache, shipped, DECIDING).name == "networks/pocket.safetensors"


@pytest.mark.parametrize("name", list(DECIDING))
def test_a_network_of_another_training_is_not_taken(tmp_path, name):
    write(tmp_path / "a.safetensors", **{name: "another"})
    assert network_files.find(None, tmp_path, DECIDING) is None
    found = network_files.find(None, tmp_path, {**DECIDING, "records": None})
    assert (found is not None) == (name == "records")  # outside a run nobody says which they were


def test_a_file_without_a_network_is_refused(tmp_path):
    write_tensors(tmp_path / "other.safetensors", {"x": torch.ones(1)}, {})
    with pytest.raises(DamagedFile, match="is no trained network; make one with editbench train --out"):
        network_files.read(tmp_path / "other.safetensors")


def test_the_digest_of_the_weights_is_of_those_that_are_edited():
    lm = tiny_lm("gpt2")
    names = [lm.mlp_out_name(0).removesuffix(".weight")]
    first = network_files.weights_digest(lm, names)
    lm.weight(lm.mlp_out_name(1)).add_(1)
    assert network_files.weights_digest(lm, names) == first
    lm.weight(lm.mlp_out_name(0))[0, 0] += 1
    assert network_files.weights_digest(lm, names) != first
