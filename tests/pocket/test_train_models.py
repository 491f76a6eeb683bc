"""The shipped models know the world, are small, and are found by name."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from editbench.config import SHIPPED_MODELS, shipped_model_path
from editbench.model.language_model import LanguageModel
from editbench.pocket import world
from editbench.pocket.train_models import RECIPES, recall, train, train_tokenizer


def test_unknown_model_is_refused():
    with pytest.raises(ValueError, match="pocket-gpt2"):
        shipped_model_path("pocket-gpt3")


def test_shipped_files_are_small():
    files = [file for file in (Path(world.__file__).parent / "models").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 25e6


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SHIPPED_MODELS) - {"pocket"}))
def test_shipped_models_know_the_world(name):
    tokenizer = AutoTokenizer.from_pretrained(shipped_model_path(name))
    model = AutoModelForCausalLM.from_pretrained(shipped_model_path(name), dtype=torch.float32).eval()
    assert tokenizer.pad_token_id is not None and model.config.use_cache
    assert bool(tokenizer("").input_ids) == (name == "pocket-llama")
    shares = recall(LanguageModel(model, tokenizer), world.build().facts()[::4])
    assert min(shares["trained statements"], shares["trained questions"]) >= 0.99
    assert min(shares["held-out statements"], shares["held-out questions"]) >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_few_steps_of_training_give_a_model_that_can_be_asked(architecture):
    recipe = replace(RECIPES[architecture], steps=3, rows=2, warm_up=1, inner=64)
    tokenizer = train_tokenizer(architecture, recipe.seed)
    lm = LanguageModel(train(architecture, recipe, tokenizer), tokenizer)
    assert set(recall(lm, world.build().facts()[::100]).values()) <= {0.0}
