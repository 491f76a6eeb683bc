"""Tensor files: what was written is read, and a changed file is noticed."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from editbench.locate_then_edit.tensor_files import DamagedFile, read_tensors, write_tensors

TENSORS = {"a": torch.eye(3).T[:, :2], "half": torch.ones(2, dtype=torch.bfloat16), "empty": torch.zeros(0)}


def test_what_is_written_is_read(tmp_path):
    write_tensors(tmp_path / "new" / "file", TENSORS, {"seconds": "1.5"})
    tensors, metadata = read_tensors(tmp_path / "new" / "file")
    assert metadata == {"seconds": "1.5"}
    assert tensors.keys() == TENSORS.keys()
    assert all(
        torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype for name, tensor in TENSORS.items()
    )


@pytest.mark.parametrize("damage", ["cut", "foreign", "changed"])
def test_damage_is_noticed(tmp_path, damage):
    file = tmp_path / "file"
    write_tensors(file, TENSORS, {"seconds": "1.5"})
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-3])
    elif damage == "foreign":
        save_file(load_file(file), file)
    else:
        file.write_bytes(file.read_bytes().replace(b'"1.5"', b'"2.5"'))
    with pytest.raises(DamagedFile, match="file is damaged"):
        read_tensors(file)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "nowhere")
