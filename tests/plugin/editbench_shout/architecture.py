"""A model class with module names that no layout of editbench fits, and the row that names them.

Importing this module, which editbench does for the row, makes the class known to transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaForCausalLM, LlamaModel

from editbench.model.architectures import Architecture

if TYPE_CHECKING:
    from torch import nn

MURMUR = Architecture(
    decoder="body",
    layers="body.blocks",
    attention="mixer",
    mlp_in=("feed.gate_proj", "feed.up_proj"),
    mlp_out="feed.down_proj",
    head="speak",
    packed_targets=True,
)


def _rename(module: nn.Module, **names: str) -> None:
    """Rename submodules, old name to new; the parent class still finds them by properties."""
    module._modules = {names.get(name, name): child for name, child in module._modules.items()}


class MurmurConfig(LlamaConfig):
    """Llama's settings under another name."""

    model_type = "murmur"


class MurmurBlock(LlamaDecoderLayer):
    """A decoder layer with ``mixer`` and ``feed``."""

    self_attn = property(lambda self: self._modules["mixer"])
    mlp = property(lambda self: self._modules["feed"])

    def __init__(self, config: MurmurConfig, index: int) -> None:
        super().__init__(config, index)
        _rename(self, self_attn="mixer", mlp="feed")


class MurmurModel(LlamaModel):
    """The decoder: ``blocks``."""

    config_class = MurmurConfig
    layers = property(lambda self: self._modules["blocks"])

    def __init__(self, config: MurmurConfig) -> None:
        super().__init__(config)
        _rename(self, layers="blocks")
        for index in range(config.num_hidden_layers):
            self.blocks[index] = MurmurBlock(config, index)
        self.post_init()


class MurmurForCausalLM(LlamaForCausalLM):
    """The model with its head: ``body`` and ``speak``."""

    config_class = MurmurConfig
    base_model_prefix = "body"
    _tied_weights_keys: Any = {}
    model = property(lambda self: self._modules["body"])
    lm_head = property(lambda self: self._modules["speak"])

    def __init__(self, config: MurmurConfig) -> None:
        super().__init__(config)
        _rename(self, model="body", lm_head="speak")
        self.body = MurmurModel(config)
        self.post_init()


AutoConfig.register("murmur", MurmurConfig, exist_ok=True)
AutoModelForCausalLM.register(MurmurConfig, MurmurForCausalLM, exist_ok=True)


def tiny_murmur(vocabulary: int, seed: int = 0) -> MurmurForCausalLM:
    """A random model of two layers; its weights are large enough that answers differ between prompts."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = MurmurForCausalLM(MurmurConfig(vocab_size=vocabulary, max_position_embeddings=128, **sizes, **ids))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    return model.eval()
