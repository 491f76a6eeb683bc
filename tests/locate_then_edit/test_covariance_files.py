"""Shared files of covariance: exported ones give the same matrices, published .npz files are read with their counts."""

import json
import logging

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from editbench import cli
from editbench.costs import CachedCosts
from editbench.fetched import cache_folder
from editbench.files import DamagedFile
from editbench.locate_then_edit.covariance import compute_covariance, read_covariance
from editbench.locate_then_edit.covariance_files import by_layer, export, import_files, read_shared
from tests.tiny_models import LINES, tiny_lm

NPZ = "transformer.h.17.mlp.c_proj_float32_mom2_100000.npz"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDITBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def lm(tmp_path):
    """A model in a folder, with covariance of two layers in the cache."""
    found = tiny_lm("gpt2")
    found.model.save_pretrained(tmp_path / "model")
    found.tokenizer.save_pretrained(tmp_path / "model")
    compute_covariance(found, LINES, [0, 2], cache=cache_folder(), texts_name="lines.txt")
    return found


def write_npz(place, name=NPZ, size=4, count=50, **more):
    place.mkdir(parents=True, exist_ok=True)
    rows = np.random.default_rng(0).standard_normal((count, size)).astype(np.float32)
    content = {"mom2.mom2": rows.T @ rows, "mom2.count": np.array(count), "sample_size": np.array(9)}
    np.savez(place / name, **{"mom2.constructor": np.array("util.runningstats.SecondMoment()"), **content, **more})
    return place / name, torch.from_numpy(rows.T @ rows).double() / count


def test_an_exported_file_gives_the_same_matrices_and_tokens(lm, tmp_path, capsys):
    out = export(str(tmp_path / "model"), tmp_path / "c.safetensors")
    costs, own = CachedCosts(), CachedCosts()
    found = read_covariance(out, [0, 2], lm, costs)
    expected = compute_covariance(lm, LINES, [0, 2], cache=cache_folder(), costs=own)
    assert all(torch.equal(found[layer], expected[layer]) for layer in (0, 2))
    assert costs.covariance_tokens == own.covariance_tokens == sum(len(lm.encode(line).ids) for line in LINES)
    assert read_shared(out)[1] == {
        "model": "model",
        "model_hash": lm.fingerprint,
        "texts": "lines.txt",
        "tokens": {"0": costs.covariance_tokens, "2": costs.covariance_tokens},
    }
    assert f"use it with: model.covariance={out}" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"a safetensors file; call it .*d\.safetensors"):
        export(str(tmp_path / "model"), tmp_path / "d.npz")  # it would be read as another kind of file
    assert not (tmp_path / "d.npz").exists()


def write_run(place, lm, digests):
    place.mkdir()
    line = {"batch": -1, "cached": {**digests, "unedited/answers.safetensors": "00"}}
    (place / "chain.jsonl").write_text(json.dumps(line) + "\n" + json.dumps({"batch": 0}) + "\n")
    run = {"provenance": {"model": {"name": "mine", "hash": lm.fingerprint}}}
    (place / "run.json").write_text(json.dumps(run))
    return str(place)


def test_a_run_exports_what_it_used(lm, tmp_path):
    costs = CachedCosts()
    expected = compute_covariance(lm, LINES, [2], cache=cache_folder(), costs=costs)
    run = write_run(tmp_path / "run", lm, costs.digests)
    out = export(run, tmp_path / "c.safetensors")
    tensors, facts = read_shared(out)
    assert list(tensors) == ["2"] and torch.equal(tensors["2"], expected[2])
    assert (facts["model"], facts["model_hash"], facts["texts"]) == ("mine", lm.fingerprint, "lines.txt")
    with pytest.raises(ValueError, match="is not the file that .* used"):
        export(write_run(tmp_path / "other", lm, dict.fromkeys(costs.digests, "00")), out)
    with pytest.raises(ValueError, match="used no covariance from the cache"):
        export(write_run(tmp_path / "none", lm, {}), out)
    (cache_folder() / next(iter(costs.digests))).unlink()
    with pytest.raises(FileNotFoundError, match="no longer in the cache"):
        export(run, out)


def test_several_texts_must_be_told_apart(lm, tmp_path):
    compute_covariance(lm, LINES[:3], [1], cache=cache_folder(), texts_name="few.txt")
    with pytest.raises(ValueError, match="has several of model") as error:
        export(str(tmp_path / "model"), tmp_path / "c.safetensors")
    key = next(line for line in str(error.value).splitlines() if "few.txt, layers 1" in line).split()[1]
    out = export(str(tmp_path / "model"), tmp_path / "c.safetensors", texts=key)
    assert list(read_shared(out)[0]) == ["1"]


def test_a_model_without_any_names_the_command(tmp_path):
    with pytest.raises(ValueError, match=r"no covariance of pocket is in the cache .*editbench precompute"):
        export("pocket", tmp_path / "c.safetensors")


def test_another_model_is_warned_of_and_damage_refused(lm, tmp_path, caplog):
    out = export(str(tmp_path / "model"), tmp_path / "c.safetensors")
    with caplog.at_level(logging.WARNING):
        read_covariance(out, [0], lm)
        assert not caplog.messages
        read_covariance(out, [0], tiny_lm("gpt2", seed=1))
    assert "was taken on model, and not on these weights" in caplog.messages[0]
    out.write_bytes(out.read_bytes()[:-8] + b"12345678")
    with pytest.raises(DamagedFile, match="altered"):
        read_covariance(out, [0], lm)


def test_published_files_are_read_with_their_counts(tmp_path):
    path, expected = write_npz(tmp_path / "gpt2-xl" / "wikipedia_stats")
    matrices, facts = read_shared(path)
    assert torch.equal(matrices["17"], expected)
    assert facts == {"model": "gpt2-xl", "model_hash": None, "texts": "wikipedia", "tokens": {"17": 50}}
    other, given = write_npz(tmp_path / "mine", "model.layers.5.mlp.down_proj_float32_mom2_100000.npz", count=7)
    assert read_shared(other)[1] == {"model": None, "model_hash": None, "texts": None, "tokens": {"5": 7}}
    costs = CachedCosts()
    assert torch.equal(read_covariance(other, [5], None, costs)[5], given) and costs.covariance_tokens == 7
    with pytest.raises(ValueError, match="for the layers 5, none for 6; `editbench covariance import` makes one"):
        read_covariance(other, [5, 6])


def test_imported_layers_are_one_sealed_file_in_the_cache(tmp_path, capsys):
    place = tmp_path / "gpt2-xl" / "wikipedia_stats"
    files = [write_npz(place)[0], write_npz(place, NPZ.replace("17", "9"), count=60)[0]]
    assert cli.main(["covariance", "import", *map(str, files)]) == 0
    (out,) = (cache_folder() / "covariance").glob("imported-*.safetensors")
    assert "layers 9, 17 of gpt2-xl, over 50, 60 tokens of wikipedia" in capsys.readouterr().out
    costs = CachedCosts()
    assert sorted(read_covariance(out, [9, 17], None, costs)) == [9, 17]
    assert costs.covariance_tokens == 50
    assert import_files([out], tmp_path / "again.safetensors").read_bytes() == out.read_bytes()
    with pytest.raises(ValueError, match="layer 17 is in an earlier file"):
        import_files([files[0], out])


def test_files_of_different_models_are_not_mixed(tmp_path):
    one, _ = write_npz(tmp_path / "gpt2-xl" / "wikipedia_stats")
    other, _ = write_npz(tmp_path / "gpt-j" / "wikipedia_stats", NPZ.replace("17", "9"))
    with pytest.raises(ValueError, match="its model is gpt-j, not gpt2-xl"):
        import_files([one, other])


def test_a_plain_file_can_be_sealed(tmp_path):
    save_file({"3": torch.eye(2)}, tmp_path / "plain.safetensors")
    tensors, facts = read_shared(import_files([tmp_path / "plain.safetensors"], tmp_path / "sealed.safetensors"))
    assert torch.equal(tensors["3"], torch.eye(2, dtype=torch.float64)) and facts["tokens"] == {}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"mom2.mom2": np.zeros((2, 3), dtype=np.float32)}, "must be a square matrix"),
        ({"mom2.count": np.array(0)}, "mom2.count is 0; it must be the number of tokens"),
        ({"mom2.count": np.array([3, 4])}, r"mom2.count is an array of shape \(2,\); it must be the number"),
        ({"mom2.mom2": np.array([object()], dtype=object)}, "mom2.count"),
        ({"mom2.mom2": np.eye(3) * np.nan}, r"mom2.mom2 \(3, 3\) holds NaN or infinite values"),
        ({"mom2.mom2": np.eye(3) + 1j}, "mom2.mom2 holds complex128; it must be a matrix of real numbers"),
        ({"mom2.mom2": np.triu(np.ones((3, 3)))}, r"mom2.mom2 \(3, 3\) is not symmetric"),
    ],
)
def test_what_is_no_covariance_is_refused(tmp_path, more, reason):
    path, _ = write_npz(tmp_path, **more)
    with pytest.raises(ValueError, match=reason):
        read_shared(path)


def test_names_without_a_layer_and_missing_files(tmp_path):
    path, _ = write_npz(tmp_path, "stats.npz")
    with pytest.raises(ValueError, match="no layer in the file's name"):
        read_shared(path)
    np.savez(tmp_path / NPZ, mom2=np.eye(2), count=3)
    with pytest.raises(ValueError, match="it has no mom2.mom2; it has mom2, count"):
        read_shared(tmp_path / NPZ)
    for damaged in (b"PK", b"hello", write_npz(tmp_path)[0].read_bytes()[:200]):
        (tmp_path / NPZ).write_bytes(damaged)
        with pytest.raises(ValueError, match="is no file of covariance"):
            read_shared(tmp_path / NPZ)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        import_files([tmp_path / "nowhere.npz"])
    with pytest.raises(FileNotFoundError, match="it is a folder; give a file"):
        read_covariance(tmp_path, [0])


@pytest.mark.parametrize("count", [np.array([50]), np.array(50.0)])
def test_a_count_may_be_an_array_of_one_number(tmp_path, count):
    path, expected = write_npz(tmp_path, **{"mom2.count": count})
    matrices, facts = read_shared(path)
    assert torch.equal(matrices["17"], expected) and facts["tokens"] == {"17": 50}


def test_keys_name_layers_as_numbers_or_modules(tmp_path):
    file = tmp_path / "by_name.safetensors"
    save_file({"model.layers.5.mlp.down_proj": torch.eye(2), "7": torch.eye(2)}, file)
    assert sorted(read_covariance(file, [5, 7])) == [5, 7]
    assert sorted(read_shared(import_files([file], tmp_path / "sealed.safetensors"))[0]) == ["5", "7"]
    save_file({"down_proj": torch.eye(2)}, file)
    with pytest.raises(ValueError, match=r"by_name.safetensors: the key 'down_proj' of a matrix \(2, 2\) names"):
        read_covariance(file, [5])
    with pytest.raises(ValueError, match="'layers.1.x' is a second matrix of layer 1"):
        by_layer({1: torch.eye(2), "layers.1.x": torch.eye(2)}, "here")
