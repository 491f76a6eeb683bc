"""Architectures: where a model keeps its layers, MLP projections and head, one row for each layout of modules.

A model belongs to the row whose modules it has, whatever its class. Rows of exceptions name their classes. Paths are
checked against the model, and loading tests the rest with forward passes: that decoder and head give the model's logits
(:mod:`editbench.model.output_head`), that attention obeys masks (:mod:`editbench.model.loading`), and that an MLP's
output reaches its layer's (:mod:`editbench.model.post_norms`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from editbench import plugins
from editbench.checks import suggestion

if TYPE_CHECKING:
    from torch import nn


class ArchitectureError(ValueError):
    """A model that fits no known layout, or a path that does not lead to the module expected there."""


@dataclass(frozen=True)
class Architecture:
    """Module paths of a decoder-only language model, and the facts that its modules do not show.

    Paths of ``decoder``, ``layers`` and ``head`` start at the model's root, the others at a layer. ``packed_targets``:
    attention obeys a mask (B, 1, T, T) alone, so that several targets may follow one prompt in a row
    (:mod:`editbench.model.packed_targets`).
    """

    decoder: str  # the model without its head ("model", "transformer"): maps tokens to final hidden states
    layers: str  # the list of decoder layers
    attention: str
    mlp_in: tuple[str, ...]  # the MLP's first projections: one, or gate and up
    mlp_out: str  # the MLP's second projection W, the weight that locate-then-edit methods change
    head: str = "lm_head"  # the projection onto the vocabulary
    packed_targets: bool = False
    no_edits: str = ""  # the reason why no projection can be edited; attention and MLP then have no paths
    models: tuple[str, ...] = ()  # run by the tests: names of their classes begin so, without " " and "-"
    classes: tuple[str, ...] = ()  # exceptions that fit this row and no other; empty for a row of all other classes


PATHS = ("decoder", "layers", "attention", "mlp_in", "mlp_out", "head")

_LLAMA = Architecture(
    "model",
    "model.layers",
    "self_attn",
    ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down_proj",
    packed_targets=True,
    models=(
        *("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma 2", "Gemma 3", "OLMo", "OLMo 2", "Granite", "Cohere"),
        *("Cohere 2", "StableLM", "SmolLM3", "EXAONE 4", "Helium"),
    ),
)
_GPT2 = Architecture(
    "transformer",
    "transformer.h",
    "attn",
    ("mlp.c_fc",),
    "mlp.c_proj",
    packed_targets=True,
    models=("GPT-2", "GPT-BigCode"),
)
# ALiBi counts columns, not positions, in BLOOM, MPT and some of Falcon's models.
_BLOOM = Architecture(
    "transformer",
    "transformer.h",
    "self_attention",
    ("mlp.dense_h_to_4h",),
    "mlp.dense_4h_to_h",
    models=("BLOOM", "Falcon"),
)
ARCHITECTURES: dict[str, Architecture] = {
    "llama": _LLAMA,
    "phi3": replace(_LLAMA, mlp_in=("mlp.gate_up_proj",), models=("Phi-3", "GLM", "GLM-4")),
    "phi": replace(_LLAMA, mlp_in=("mlp.fc1",), mlp_out="mlp.fc2", models=("Phi",)),
    "nemotron": replace(_LLAMA, mlp_in=("mlp.up_proj",), models=("Nemotron",)),
    "starcoder2": replace(_LLAMA, mlp_in=("mlp.c_fc",), mlp_out="mlp.c_proj", models=("Starcoder2",)),
    "persimmon": replace(_LLAMA, mlp_in=("mlp.dense_h_to_4h",), mlp_out="mlp.dense_4h_to_h", models=("Persimmon",)),
    # The text decoder of a multimodal model.
    "wrapped": replace(
        _LLAMA, decoder="model.language_model", layers="model.language_model.layers", models=("Gemma 3",)
    ),
    "gpt2": _GPT2,
    "gptj": replace(_GPT2, mlp_in=("mlp.fc_in",), mlp_out="mlp.fc_out", models=("GPT-J", "CodeGen")),
    "bloom": _BLOOM,
    "mpt": Architecture(
        "transformer", "transformer.blocks", "attn", ("ffn.up_proj",), "ffn.down_proj", models=("MPT",)
    ),
    "gpt_neox": Architecture(
        "gpt_neox",
        "gpt_neox.layers",
        "attention",
        ("mlp.dense_h_to_4h",),
        "mlp.dense_4h_to_h",
        packed_targets=True,
        models=("GPT-NeoX",),
    ),
    "opt": Architecture(
        "model", "model.decoder.layers", "self_attn", ("fc1",), "fc2", packed_targets=True, models=("OPT",)
    ),
    # Its local attention counts columns, not positions.
    "gpt_neo": replace(_GPT2, packed_targets=False, models=("GPT-Neo",), classes=("GPTNeoForCausalLM",)),
}


def known_architectures() -> dict[str, Architecture]:
    """Rows by name: editbench's own, and those of other packages (entry points ``editbench.architectures``)."""
    rows = dict(ARCHITECTURES)
    for name in plugins.entry_points(plugins.ARCHITECTURES):
        row = plugins.load(plugins.ARCHITECTURES, name, "architecture")
        if not isinstance(row, Architecture) or name in ARCHITECTURES:
            raise ArchitectureError(
                f"the entry point {name!r} of {plugins.ARCHITECTURES} must be an Architecture under a name of its own"
            )
        rows[name] = row
    return rows


def find_architecture(model: nn.Module, overrides: Any = None) -> Architecture:
    """The row that ``model`` fits, with the user's ``overrides``, checked against the model.

    Overrides are paths by field name (config ``model.architecture``), in a mapping or an object; None or empty ones
    leave the row's. A model of no row gets an architecture without edits (``no_edits``): it can be asked, with text
    before its prompts too.
    """
    given = _given_paths(overrides)
    rows, name = known_architectures(), type(model).__name__
    named = {key: row for key, row in rows.items() if name in row.classes}
    misfits: dict[str, str] = {}
    for key, row in (named or {key: row for key, row in rows.items() if not row.classes}).items():
        try:
            _check_dense(model, row)
            check_architecture(model, row)
        except ArchitectureError as error:
            misfits[key] = str(error)
        else:
            architecture = replace(row, **given)
            break
    else:
        missing = [path for path in PATHS if path not in given and path != "head"]
        if missing:
            experts = next((why for why in misfits.values() if why.endswith(_EXPERTS)), None)
            reason = f"{name}: {experts}" if experts else _unknown_architecture(model, missing, misfits, rows)
            return _without_edits(model, reason, given)
        architecture = Architecture(**given)
    check_architecture(model, architecture)
    return architecture


def _given_paths(overrides: Any) -> dict[str, Any]:
    mapping: Mapping[str, Any] = overrides if hasattr(overrides, "items") else vars(overrides) if overrides else {}
    given = {key: (tuple(value) if key == "mlp_in" else value) for key, value in mapping.items() if value}
    for key in given:
        if key not in PATHS:
            reason = f"is not a path of an architecture; {suggestion(key, PATHS)}"
            raise ArchitectureError(f"model.architecture.{key} {reason}")
    return given


def check_architecture(model: nn.Module, architecture: Architecture) -> None:
    """Verify every path of ``architecture`` on ``model``: it exists, has the right kind and the right sizes."""
    layers, config = list(module_at(model, architecture.layers).children()), text_config(model)
    if len(layers) != config.num_hidden_layers:
        raise ArchitectureError(
            f"{architecture.layers} holds {len(layers)} layers, the model's config says {config.num_hidden_layers}; "
            "set model.architecture.layers"
        )
    module_at(model, architecture.decoder)
    for index, layer in enumerate(layers):
        where = f"{architecture.layers}.{index}"
        module_at(layer, architecture.attention, where)
        for path in architecture.mlp_in:
            projection_sizes(module_at(layer, path, where), f"{where}.{path}")
        _, out = projection_sizes(module_at(layer, architecture.mlp_out, where), f"{where}.{architecture.mlp_out}")
        if out != config.hidden_size:
            raise ArchitectureError(
                f"{where}.{architecture.mlp_out} maps to {out} features, but the hidden size is {config.hidden_size}; "
                "set model.architecture.mlp_out to the MLP's second projection"
            )
    projection_sizes(module_at(model, architecture.head), architecture.head)


def _check_dense(model: nn.Module, architecture: Architecture) -> None:
    for name, _ in module_at(model, architecture.layers).named_modules():
        if name.rpartition(".")[2] == "experts":
            raise ArchitectureError(f"{architecture.layers}.{name} {_EXPERTS}")


def _without_edits(model: Any, reason: str, given: Mapping[str, Any]) -> Architecture:
    """Decoder, layers and head as transformers' classes name them; the reason as an error if they do not."""
    names = {module: name for name, module in model.named_modules()}
    head, decoder = model.get_output_embeddings(), getattr(model, "base_model_prefix", "")
    count = text_config(model).num_hidden_layers
    inside = getattr(model, decoder, None) if decoder else None
    lists = [m for m in inside.modules() if type(m).__name__ == "ModuleList"] if inside is not None else []
    layers = next((names[m] for m in lists if len(m) == count), None)
    if given or layers is None or head not in names:
        raise ArchitectureError(reason)
    return Architecture(decoder, layers, "", (), "", names[head], no_edits=reason)


_EXPERTS = (
    "holds a mixture of experts, so that no single projection could take an edit; the model can be asked, with "
    "unedited, in_context and retrieval"
)


def projection_sizes(module: nn.Module, where: str) -> tuple[int, int]:
    """(in, out) features of a projection: an ``nn.Linear``, or the transposed ``Conv1D``."""
    if is_transposed(module):
        return int(module.weight.shape[0]), int(module.weight.shape[1])  # type: ignore[union-attr, index]
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        return int(module.in_features), int(module.out_features)  # type: ignore[arg-type]
    raise ArchitectureError(f"{where} is a {type(module).__name__}; expected a linear projection (nn.Linear or Conv1D)")


def is_transposed(module: nn.Module) -> bool:
    """Whether the projection stores its weight as (in, out): GPT-2's ``Conv1D``, known by type, not by shape."""
    return type(module).__name__ == "Conv1D"


def module_at(root: nn.Module, path: str, where: str = "") -> nn.Module:
    """The submodule at a dotted path."""
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


def text_config(model: Any) -> Any:
    """The text model's configuration."""
    return model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config


def _unknown_architecture(
    model: nn.Module, missing: list[str], misfits: Mapping[str, str], rows: Mapping[str, Architecture]
) -> str:
    modules = dict(model.named_modules())
    lists = [name for name, module in modules.items() if type(module).__name__ == "ModuleList"]
    example = lists[0] if lists else "(no module list found)"
    layer = next(iter(modules[example].children()), None) if lists else None
    inside = [n for n, m in layer.named_modules() if n and not list(m.children())] if layer is not None else []
    by_reason: dict[str, list[str]] = {}  # rows of equal paths fail alike
    for key, why in misfits.items():
        if rows[key].layers in modules:
            by_reason.setdefault(why, []).append(key)
    near = [f" It has the layers of {', '.join(keys)}, but: {why}." for why, keys in by_reason.items()]
    return (
        f"the architecture {type(model).__name__} is not known.{''.join(near)} Set these paths under "
        f"model.architecture: {', '.join(missing)}. Lists of modules in this model: {lists}; inside {example}.0: "
        f"{inside}. Example (Llama): decoder=model layers=model.layers attention=self_attn "
        "mlp_in=[mlp.gate_proj,mlp.up_proj] mlp_out=mlp.down_proj head=lm_head"
    )
