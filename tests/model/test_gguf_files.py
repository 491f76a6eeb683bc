"""GGUF files: what is in them, their expansion, and that the result is an ordinary model."""

import logging

import pytest
import torch

from editbench import LanguageModel, load_model
from editbench.model.gguf_files import expanded, is_gguf, load_gguf, stored_precision
from tests.gguf_files import tiny_llama, write_gguf


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


@pytest.mark.parametrize("stored", ["F32", "Q4_1"])
def test_the_weights_are_those_that_were_written(tmp_path, model, stored):
    own, tokenizer = model
    file = write_gguf(tmp_path / "tiny.gguf", own, tokenizer, stored)
    loaded, tokens = load_gguf(file, {"dtype": torch.float32})
    found, bound = loaded.state_dict(), 0.0 if stored == "F32" else 0.1  # of a 4-bit step of weights with σ 0.2
    for name, weight in own.state_dict().items():
        assert float((found[name] - weight).abs().max()) <= bound, name
    if stored != "F32":
        assert any(not torch.equal(found[name], weight) for name, weight in own.state_dict().items())
    text = "The mother tongue of Danielle Darrieux is French."
    assert tokens(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert stored_precision(file) == stored


def test_it_is_an_ordinary_model_that_can_be_saved(tmp_path, model):
    file = write_gguf(tmp_path / "tiny.gguf", *model)
    loaded, tokenizer = load_gguf(file, {"dtype": torch.float32})
    loaded.save_pretrained(tmp_path / "folder")
    tokenizer.save_pretrained(tmp_path / "folder")
    assert LanguageModel.load(tmp_path / "folder").fingerprint == LanguageModel.load(file).fingerprint


def test_it_is_loaded_by_its_path_and_says_what_it_was(tmp_path, model, caplog):
    file = write_gguf(tmp_path / "tiny.GGUF", *model)
    with caplog.at_level(logging.INFO):
        lm = load_model(str(file), dtype="bfloat16")
    assert lm.name == "tiny.GGUF"
    assert lm.model.dtype == torch.bfloat16
    assert "tiny.GGUF: file tiny.GGUF, Q4_1 expanded to bfloat16" in caplog.messages


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.05, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_refused(tmp_path, model, share):
    whole = write_gguf(tmp_path / "tiny.gguf", *model).read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: round(share * len(whole))])
    with pytest.raises(FileNotFoundError, match="no model could be loaded from the file .*cut.gguf"):
        load_model(tmp_path / "cut.gguf")


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"not a model at all")
    with pytest.raises(FileNotFoundError, match="not a GGUF file"):
        load_model(tmp_path / "bad.gguf")
    with pytest.raises(FileNotFoundError, match="no model at"):
        load_model(tmp_path / "nowhere.gguf")


def test_names():
    assert is_gguf("a/B.GGUF")
    assert not is_gguf("a/b.gguf.part")
    assert expanded("Q8_0", "float16") == "Q8_0 expanded to float16"
