"""A model without its weights, from its config alone: sizes of its parts, and the memory of its passes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.model.architectures import find_architecture, module_at, projection_sizes, text_config
from editbench.model.other_kinds import refuse_other_kind
from editbench.model.saved_attention import saving_attention
from editbench.model_places import model_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editbench.config import ModelConfig

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
HEAD_NUMBERS = {True: 1 << 26, False: 1 << 20}
"""Numbers of a half-precision head that are in float32 at once, on a GPU and on a CPU."""
LOGITS = 3
"""Copies of the logits (float32) that a backward pass holds at once: log-probabilities and two gradients."""
MAX_LOGITS = 1 << 24  # at once, where answers are scored
PROBED = 16  # tokens of the pass that is looked at


@dataclass(frozen=True)
class Shape:
    """A model on the device "meta", which takes no memory. Sizes are in numbers, memory is in bytes.

    Attributes:
        model: transformers' module, on "meta".
        parameters: Numbers of its weights.
        bytes: Of its weights.
        of_a_number: Bytes of one of them.
        of_an_edited: Bytes of a number of a matrix that is edited (``model.edited_dtype``).
        gpu: Whether it is to run on one.
    """

    model: Any
    parameters: int
    bytes: int
    of_a_number: int
    of_an_edited: int
    gpu: bool = False

    @classmethod
    def of(cls, config: ModelConfig, gpu: bool = False) -> Shape:
        """From the config alone; a FileNotFoundError for a model of which there is none here or on the hub."""
        from transformers import AutoConfig

        place = model_place(config.path)
        try:
            own = AutoConfig.from_pretrained(str(place), revision=config.revision)
        except (OSError, ValueError) as error:
            raise FileNotFoundError(_no_config(place, error)) from error
        refuse_other_kind(place, own)
        return cls.of_config(own, config.dtype, gpu, config.edited_dtype)

    @classmethod
    def of_config(cls, config: Any, dtype: str, gpu: bool = False, edited_dtype: str | None = None) -> Shape:
        """From transformers' config of a model."""
        import torch
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
        count, size = sum(parameter.numel() for parameter in model.parameters()), BYTES[dtype]
        return cls(model, count, count * size, size, max(size, BYTES[edited_dtype or dtype]), gpu)

    @property
    def wide(self) -> int:
        """Bytes of a number in training: float32 or wider."""
        return max(4, self.of_a_number)

    @cached_property
    def layers(self) -> int:
        """Number of decoder layers."""
        return int(text_config(self.model).num_hidden_layers)

    @cached_property
    def width(self) -> int:
        """Hidden size d."""
        return int(self.model.get_input_embeddings().weight.shape[1])

    @cached_property
    def vocabulary(self) -> int:
        """Tokens V of the head."""
        return int(text_config(self.model).vocab_size)

    @cached_property
    def keys(self) -> int:
        """Numbers of a token's keys and values in one layer."""
        config = text_config(self.model)
        heads = int(config.num_attention_heads)
        shared = int(getattr(config, "num_key_value_heads", None) or heads)
        return 2 * shared * int(getattr(config, "head_dim", None) or self.width // heads)

    def projections(self, layer: int) -> dict[str, tuple[int, int]]:
        """(in, out) of the projections of a layer's MLP, by path; the last is the second one. Empty without edits."""
        row = self._architecture
        paths = () if row.no_edits else (*row.mlp_in, row.mlp_out)
        return {path: projection_sizes(module_at(self.model, f"{row.layers}.{layer}.{path}"), path) for path in paths}

    def projection(self, layer: int, which: str = "second") -> tuple[int, int]:
        """(in, out) of the "first" or the "second" projection of a layer's MLP; (0, 0) without edits."""
        sizes = list(self.projections(layer).values())
        return (0, 0) if not sizes else sizes[0 if which == "first" else -1]

    def linear(self, names: Sequence[str], layers: Sequence[int] = ()) -> list[tuple[int, int]]:
        """(in, out) of the linear modules with one of these names or ends of names, in these layers or in all."""
        found = []
        for name, module in self.model.named_modules():
            of = next((int(part) for part in name.split(".") if part.isdecimal()), None)
            if any(name == one or name.endswith(f".{one}") for one in names) and (not layers or of in layers):
                found.append(projection_sizes(module, name))
        return found

    def inputs(self, layer: int) -> int:
        """d_ff: inputs of a layer's second projection; 0 where it cannot be edited."""
        return self.projection(layer)[0]

    def weight(self, layer: int) -> int:
        """Numbers of a layer's second projection."""
        return self.inputs(layer) * self.width

    def covariance(self, layer: int) -> int:
        """Bytes of the covariance of a layer's keys, or of a factor of it, in float64."""
        return 8 * self.inputs(layer) ** 2

    def working(self, tokens: float) -> int:
        """Bytes of a forward pass over so many tokens, in the layer where they are most."""
        inside = sum(out for _, out in self.projections(0).values()) + self.inputs(0)
        return round(tokens * (inside + 3 * self.width) * self.of_a_number) + self._head()

    def scoring(self, tokens: int) -> int:
        """Bytes while so many tokens of prompts and answers are scored."""
        return self.working(tokens) + 2 * self.wide * min(MAX_LOGITS, tokens * self.vocabulary)

    def training(self, tokens: float, predicted: float, layers: int, beside: float = 0.0) -> int:
        """Bytes of a forward and a backward pass through frozen layers.

        Args:
            tokens: That run through the layers.
            predicted: Tokens at which the vocabulary is predicted.
            layers: Number of the layers.
            beside: Tokens of which keys and values alone are read.
        """
        kept = tokens * layers * self.saved + beside * layers * self.keys * self.of_a_number
        return round(kept + LOGITS * predicted * self.vocabulary * self.wide) + self.working(tokens)

    @cached_property
    def saved(self) -> float:
        """Bytes that a backward pass needs of a token in a layer: of a pass on the device "meta" that keeps them.

        Attention counts as a fused one does, without its scores.
        """
        import torch

        decoder, config = module_at(self.model, self._architecture.decoder), text_config(self.model)
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
            return tensor

        dtype = {8: torch.float64, 4: torch.float32, 2: torch.bfloat16}[self.of_a_number]
        own = {p.untyped_storage()._cdata for p in self.model.to(dtype).parameters()}
        given: Any = {"dtype": dtype, "device": "meta"}
        entering = torch.zeros((1, PROBED, self.width), **given, requires_grad=True)
        mask, kinds = torch.zeros((1, 1, PROBED, PROBED), **given), set(getattr(config, "layer_types", None) or ())
        masks: Any = dict.fromkeys(kinds, mask) if kinds else mask
        saved_tensors_hooks = torch.autograd.graph.saved_tensors_hooks
        with torch.enable_grad(), saving_attention(config), saved_tensors_hooks(keep, lambda tensor: tensor):
            decoder(inputs_embeds=entering, attention_mask=masks, use_cache=False)
        size = sum(storage.nbytes() for place, storage in kept.items() if place not in own)
        return size / PROBED / self.layers

    @cached_property
    def _architecture(self) -> Any:
        return find_architecture(self.model)

    def _head(self) -> int:
        """Bytes of the part of the head that is in float32 at once."""
        return 0 if self.of_a_number >= 4 else 4 * min(HEAD_NUMBERS[self.gpu], self.vocabulary * self.width)


def _no_config(place: Path | str, error: Exception) -> str:
    """A line on a model whose config is not to be had."""
    reason = str(error).strip().partition("\n")[0].rstrip(" :")
    if isinstance(place, Path):
        return f"no model could be planned from {place}: {reason}"
    return (
        f"no model at {place!r}: there is no such folder, and the hub did not give its config ({reason}). Give a "
        "folder that holds its config.json, with model.path=DIR: a plan needs no weights"
    )
