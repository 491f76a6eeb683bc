"""Shapes of models of full size, random models of them, and context templates of the published numbers and lengths."""

from functools import cache

import torch
import transformers

from editbench.model.language_model import LanguageModel
from editbench.model.loading import DTYPES
from editbench.model.shape import Shape
from editbench.model_places import shipped_model_path

BIG = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "vocab_size": 32000,
    "intermediate_size": 11008,
    "tie_word_embeddings": False,
}
_13B = {"hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 40}
_70B = {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8}
SHAPES = {
    "llama-2-7b": BIG,
    "llama-3-8b": BIG | {"vocab_size": 128256, "intermediate_size": 14336, "num_key_value_heads": 8},
    "llama-2-13b": BIG | _13B | {"intermediate_size": 13824},
    "llama-2-70b": BIG | _70B | {"intermediate_size": 28672},
    "small": BIG | {"vocab_size": 4000, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4}
    | {"intermediate_size": 128},
}  # fmt: skip
"""What a config.json says of them; "small" has the layers of the 7B one."""
SENTENCE = "The people of the town have often said that. "
SHORT = ["{}", *[f"{SENTENCE}{{}}"] * 5]
"""As many as MEMIT and its relatives sample."""
LONG = ["{}", *(f"{SENTENCE * (1 + i % 2)}{{}}" for i in range(20))]
"""As many as ROME samples."""


def random_lm(shape, dtype, device):
    """A Llama of this shape on the device, made there, with the embedded world's tokenizer."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[dtype])
    try:
        with torch.device(device):
            torch.manual_seed(0)
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPES[shape]))
    finally:
        torch.set_default_dtype(default)
    tokenizer = transformers.AutoTokenizer.from_pretrained(shipped_model_path("pocket"))
    return LanguageModel(model, tokenizer, name=shape)


@cache
def shape_of(name, dtype, gpu=True):
    """A shape without weights."""
    return Shape.of_config(transformers.LlamaConfig(**SHAPES[name]), dtype, gpu)
