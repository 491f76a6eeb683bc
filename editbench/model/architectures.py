"""Where an architecture keeps its layers, MLP projections, norms and head.

An :class:`Architecture` is a set of module paths. It is found from the model's class name, never guessed from shapes,
and then checked against the model itself, so that a wrong entry fails at load time and not as a silent bad edit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from editbench.checks import suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn


class ArchitectureError(ValueError):
    """The model's class is not known, or a path does not lead to what it should."""


@dataclass(frozen=True)
class Architecture:
    """Module paths of a decoder-only language model.

    Attributes:
        decoder: The model without its language-model head ("model", "transformer"); maps tokens to final hidden states.
        layers: The list of decoder layers, from the model's root.
        attention: The attention block, inside a layer.
        mlp_in: The MLP's first projections, inside a layer (one, or gate and up).
        mlp_out: The MLP's second projection W, inside a layer: the weight that locate-then-edit methods change.
        head: The projection onto the vocabulary, from the root.
    """

    decoder: str
    layers: str
    attention: str
    mlp_in: tuple[str, ...]
    mlp_out: str
    head: str = "lm_head"


_LLAMA = Architecture("model", "model.layers", "self_attn", ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj")

ARCHITECTURES: dict[str, Architecture] = {
    "GPT2LMHeadModel": Architecture("transformer", "transformer.h", "attn", ("mlp.c_fc",), "mlp.c_proj"),
    "GPTJForCausalLM": Architecture("transformer", "transformer.h", "attn", ("mlp.fc_in",), "mlp.fc_out"),
    "GPTNeoXForCausalLM": Architecture(
        "gpt_neox", "gpt_neox.layers", "attention", ("mlp.dense_h_to_4h",), "mlp.dense_4h_to_h"
    ),
    "OPTForCausalLM": Architecture("model", "model.decoder.layers", "self_attn", ("fc1",), "fc2"),
    "Phi3ForCausalLM": replace(_LLAMA, mlp_in=("mlp.gate_up_proj",)),
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "Qwen2ForCausalLM": _LLAMA,
    "Qwen3ForCausalLM": _LLAMA,
    "Gemma2ForCausalLM": _LLAMA,
    "Gemma3ForCausalLM": _LLAMA,
}
"""Known architectures by the class name of the transformers model."""


def find_architecture(model: nn.Module, overrides: Mapping[str, Any] | None = None) -> Architecture:
    """The architecture of ``model``, from its class name and the user's ``overrides``, checked against the model.

    Args:
        model: A transformers causal language model.
        overrides: Paths that replace or supply the table's, by field name (config ``model.architecture``); None is no
            path.

    Raises:
        ArchitectureError: Unknown class without a full set of overrides, unknown field, or a path that leads nowhere.
    """
    given: dict[str, Any] = {k: (tuple(v) if k == "mlp_in" else v) for k, v in dict(overrides or {}).items() if v}
    names = [f.name for f in fields(Architecture)]
    for key in given:
        if key not in names:
            raise ArchitectureError(
                f"model.architecture.{key} is not a path of an architecture; {suggestion(key, names)}"
            )
    known = ARCHITECTURES.get(type(model).__name__)
    if known is not None:
        architecture = replace(known, **given)
    else:
        missing = [n for n in names if n not in given and n != "head"]
        if missing:
            raise ArchitectureError(_unknown_class(model, missing))
        architecture = Architecture(**given)
    check_architecture(model, architecture)
    return architecture


def check_architecture(model: nn.Module, architecture: Architecture) -> None:
    """Verify every path of ``architecture`` on ``model``: it exists, has the right kind and the right sizes.

    Raises:
        ArchitectureError: Naming the path, what was expected there and what was found.
    """
    layers = module_at(model, architecture.layers)
    expected = int(config_of(model, "num_hidden_layers"))
    if len(list(layers.children())) != expected:
        raise ArchitectureError(
            f"{architecture.layers} holds {len(list(layers.children()))} layers, the model's config says {expected}; "
            "set model.architecture.layers"
        )
    module_at(model, architecture.decoder)
    hidden = int(config_of(model, "hidden_size"))
    for index, layer in enumerate(layers.children()):
        where = f"{architecture.layers}.{index}"
        module_at(layer, architecture.attention, where)
        for path in architecture.mlp_in:
            projection_sizes(module_at(layer, path, where), f"{where}.{path}")
        _, out = projection_sizes(module_at(layer, architecture.mlp_out, where), f"{where}.{architecture.mlp_out}")
        if out != hidden:
            raise ArchitectureError(
                f"{where}.{architecture.mlp_out} maps to {out} features, but the hidden size is {hidden}; "
                "set model.architecture.mlp_out to the MLP's second projection"
            )
    projection_sizes(module_at(model, architecture.head), architecture.head)


def projection_sizes(module: nn.Module, where: str) -> tuple[int, int]:
    """(in, out) features of a projection, read from its type: ``nn.Linear`` or the transposed ``Conv1D``.

    Raises:
        ArchitectureError: The module is neither.
    """
    if is_transposed(module):
        return int(module.weight.shape[0]), int(module.weight.shape[1])  # type: ignore[union-attr, index]
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        return int(module.in_features), int(module.out_features)  # type: ignore[arg-type]
    raise ArchitectureError(f"{where} is a {type(module).__name__}; expected a linear projection (nn.Linear or Conv1D)")


def is_transposed(module: nn.Module) -> bool:
    """Whether the projection stores its weight as (in, out): GPT-2's ``Conv1D``. Known by type, not by shape."""
    return type(module).__name__ == "Conv1D"


def module_at(root: nn.Module, path: str, where: str = "") -> nn.Module:
    """The submodule at a dotted path.

    Raises:
        ArchitectureError: Nothing is there; the message lists what is.
    """
    module = root
    for part in path.split("."):
        children = dict(module.named_children())
        if part not in children:
            full = ".".join(p for p in (where, path) if p)
            raise ArchitectureError(
                f"{type(root).__name__} has no module {full!r} (no {part!r} in {sorted(children)}); "
                "set the path in the config under model.architecture"
            )
        module = children[part]
    return module


def config_of(model: nn.Module, name: str) -> Any:
    """A number of the text model's configuration."""
    config: Any = model.config
    return getattr(config.get_text_config() if hasattr(config, "get_text_config") else config, name)


def _unknown_class(model: nn.Module, missing: list[str]) -> str:
    lists = [n for n, m in model.named_modules() if type(m).__name__ == "ModuleList"]
    example = lists[0] if lists else "(no module list found)"
    layer = next((m[0] for n, m in model.named_modules() if n == example), None) if lists else None  # type: ignore[index]
    inside = [n for n, m in layer.named_modules() if n and not list(m.children())] if layer is not None else []
    return (
        f"the architecture {type(model).__name__} is not known. Set these paths under model.architecture: "
        f"{', '.join(missing)}. Lists of modules in this model: {lists}; inside {example}.0: {inside}. "
        "Example (Llama): decoder=model layers=model.layers attention=self_attn mlp_in=[mlp.gate_proj,mlp.up_proj] "
        "mlp_out=mlp.down_proj head=lm_head"
    )


PACKS = frozenset(
    f"{name}ForCausalLM"
    for name in ("GPTJ", "GPTNeoX", "Llama", "Mistral", "Qwen2", "Qwen3", "Gemma2", "Gemma3", "Phi3", "OPT")
) | {"GPT2LMHeadModel"}
"""Classes of models that take packed rows."""
