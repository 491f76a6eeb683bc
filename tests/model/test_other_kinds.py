"""Models of other kinds are refused by name, from their config alone."""

import json

import pytest
import transformers

from editbench.config import ModelConfig
from editbench.model.architectures import ArchitectureError
from editbench.model.language_model import LanguageModel
from editbench.model.other_kinds import refuse_other_kind
from editbench.model.shape import Shape
from tests.small_runs import save_model
from tests.tiny_models import EXPERTS, FAMILIES, TINY_ARCHITECTURES, tiny_lm

KINDS = [
    (transformers.T5Config(), "T5ForConditionalGeneration", "encoder-decoder"),
    (transformers.BartConfig(), "BartForConditionalGeneration", "encoder-decoder"),
    (transformers.WhisperConfig(), "WhisperForConditionalGeneration", "encoder-decoder"),
    (transformers.LlamaConfig(), "LlamaForSequenceClassification", "classification"),
    (transformers.BertConfig(), "BertForTokenClassification", "classification"),
    (transformers.LlamaConfig(), "LlamaModel", "without a language head"),
    (transformers.BertConfig(), "BertForMaskedLM", "masked"),
    (transformers.RobertaConfig(), "RobertaForMaskedLM", "masked"),
    (transformers.LlavaConfig(), "LlavaForConditionalGeneration", "multimodal"),
    (transformers.Qwen2VLConfig(), "Qwen2VLForConditionalGeneration", "multimodal"),
    (transformers.Mistral3Config(), "Mistral3ForConditionalGeneration", "multimodal"),
]


@pytest.mark.parametrize(("config", "name", "kind"), KINDS, ids=[name for _, name, _ in KINDS])
def test_other_kinds_are_named(config, name, kind):
    config.architectures = [name]
    with pytest.raises(
        ArchitectureError, match=rf"DIR is .*{kind}.* \({name} in its config.json\); give a decoder-only"
    ):
        refuse_other_kind("DIR", config)


@pytest.mark.parametrize("architecture", [*TINY_ARCHITECTURES, *FAMILIES, *EXPERTS])
def test_language_models_are_not_refused(architecture):
    model = tiny_lm(architecture).model
    model.config.architectures = [type(model).__name__]
    refuse_other_kind("DIR", model.config)


def test_a_base_model_with_a_tied_head_has_one():
    config = transformers.GPT2Config(tie_word_embeddings=True)
    config.architectures = ["GPT2Model"]
    refuse_other_kind("DIR", config)


def test_loading_and_planning_name_the_kind(tmp_path):
    folder = save_model(tiny_lm("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForSequenceClassification"]}))
    with pytest.raises(ArchitectureError, match="a head for classification"):
        LanguageModel.load(folder)
    with pytest.raises(ArchitectureError, match="a head for classification"):
        Shape.of(ModelConfig(path=str(folder)))
