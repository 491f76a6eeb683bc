"""The shipped models have the shape of their recipes."""

import json

from editbench.model_places import shipped_model_path
from editbench.pocket.recipes import RECIPES


def shape(name, *fields):
    config = json.loads((shipped_model_path(name) / "config.json").read_text())
    return tuple(config[field] for field in fields)


def test_shapes():
    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "max_position_embeddings")
    recipe = RECIPES["llama"]
    assert shape("pocket", *names) == (recipe.layers, recipe.width, recipe.inner, recipe.heads, recipe.positions)
    recipe = RECIPES["gpt2"]
    names = ("n_layer", "n_embd", "n_inner", "n_head", "n_positions")
    assert shape("pocket-gpt2", *names) == (recipe.layers, recipe.width, recipe.inner, recipe.heads, recipe.positions)
