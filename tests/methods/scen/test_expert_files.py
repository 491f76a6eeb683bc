"""The folder of experts: names, numbers, and writing that fails."""

import pytest
import torch

from editbench.files import DamagedFile
from editbench.memory_based.compression import CompressedDelta
from editbench.methods.scen import expert_files
from editbench.methods.scen.expert_files import Expert, ExpertFiles, number_of, read_expert
from tests.methods.scen.given_neurons import full_at


def expert(id, value=1.0):
    parts = {"difference": torch.full((2, 3), value)}
    return Expert(id, f"prompt of {id}", "w", torch.ones(3), torch.zeros(3), CompressedDelta("dense", parts))


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_files_are_numbered_on_and_replaced_by_newer_ones(tmp_path):
    files = ExpertFiles(tmp_path)
    for id in ("a", "b/ü", "a"):
        files.take(id, files.write([expert(id)])[0])
    assert names(tmp_path) == ["000001-b%2F%C3%BC.safetensors", "000002-a.safetensors"]
    again = ExpertFiles(tmp_path)
    assert [id for id, _ in again] == ["b/ü", "a"] and read_expert(again.of("a")).digest == expert("a").digest
    assert number_of(again.write([expert("c")])[0]) == 3
    again.remove("a")
    again.remove("nobody")
    assert again.of("a") is None and len(again) == 1


def test_a_number_of_seven_digits_comes_after_one_of_six(tmp_path):
    files = ExpertFiles(tmp_path)
    files._next = 999_999
    for id in ("b", "a"):
        files.take(id, files.write([expert(id)])[0])
    assert [id for id, _ in ExpertFiles(tmp_path)] == ["b", "a"]


@pytest.mark.parametrize("at", range(3))
def test_files_are_written_all_or_none(at, tmp_path, monkeypatch):
    files, write = ExpertFiles(tmp_path), expert_files.write_tensors
    files.take("a", files.write([expert("a")])[0])

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(expert_files, "write_tensors", full_at(at, write))
        files.write([expert("a", 2.0), expert("b"), expert("c")])
    assert names(tmp_path) == ["000000-a.safetensors"]
    assert number_of(files.write([expert("b")])[0]) == 1


def test_clearing_keeps_what_is_known_and_names_what_is_another(tmp_path):
    files = ExpertFiles(tmp_path)
    for id in ("a", "b", "c"):
        files.take(id, files.write([expert(id)])[0])
    with pytest.raises(DamagedFile, match="000001-b.safetensors is damaged"):
        files.clear({"a": expert("a").digest, "b": "another"})
    assert len(names(tmp_path)) == 3 == len(files)
    kept = files.clear({"b": expert("b").digest, "d": "not here"})
    assert list(kept) == ["b"] and names(tmp_path) == ["000001-b.safetensors"] and len(files) == 0
