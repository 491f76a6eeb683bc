"""Loading a model from a folder, and the errors of what is no model."""

import pytest
import torch

from editbench import load_model
from editbench.model.language_model import LanguageModel
from tests.tiny_models import tiny_lm


def test_loading_from_a_folder_and_clear_errors(tmp_path):
    lm = tiny_lm("gpt2")
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    loaded = LanguageModel.load(tmp_path / "model", device="cpu")
    assert loaded.name == "model"
    assert loaded.fingerprint == lm.fingerprint
    assert LanguageModel.load(tmp_path / "model", dtype="bfloat16", device="cpu").model.dtype == torch.bfloat16
    with pytest.raises(FileNotFoundError, match="no model at"):
        LanguageModel.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="it holds nothing"):
        LanguageModel.load(tmp_path / "empty")
    with pytest.raises(ValueError, match="did you mean 'float32'"):
        LanguageModel.load(tmp_path / "model", dtype="flot32")


def test_load_model_takes_a_path_and_options(tmp_path):
    lm = tiny_lm("gpt2")
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    loaded = load_model(tmp_path / "model", dtype="float64", device="cpu")
    assert (loaded.name, loaded.model.dtype) == ("model", torch.float64)
    assert load_model(str(tmp_path / "model"), "mine").name == "mine"
