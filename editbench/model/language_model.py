"""The language model: a frozen causal model with its tokenizer, its architecture and a hash of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from editbench.checks import whole_number
from editbench.model.architectures import (
    Architecture,
    ArchitectureError,
    find_architecture,
    is_transposed,
    module_at,
    projection_sizes,
    text_config,
)
from editbench.model.batching import PaddedBatch
from editbench.model.chat_template import chat_format
from editbench.model.loading import (
    DTYPES,
    cache_keyword,
    load_pretrained,
    obeys_masks,
    origin_of,
    plain_model,
    returns_tuples,
)
from editbench.model.offload import check_changeable, check_in_memory, device_of, stored_tensors
from editbench.model.output_head import check_head, head_logits, logit_scale
from editbench.model.partial_forward import runs_trees
from editbench.model.post_norms import Behind, find_post_norms
from editbench.model.tokenisation import Encoded, check_tokenizer, continuation, encode, is_spaced
from editbench.records import PromptFormat

TEXTS = 1 << 14
"""Tokenised texts that a model keeps: an edit's are asked for many times while it is prepared, edited and scored.

A tokenizer must not be changed once its model has tokenised a text.
"""

_NO_NUMBERS = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache")
"""Configuration that changes no number of the model; the weights' dtype is hashed with the weights."""


class LanguageModel:
    """A causal transformers model in evaluation mode, frozen, with its fast tokenizer and its name in results."""

    def __init__(self, model: Any, tokenizer: Any, *, name: str = "model", architecture: Any = None) -> None:
        """Wrap a loaded model; ``architecture`` as for :func:`~editbench.model.architectures.find_architecture`."""
        check_tokenizer(tokenizer, name)
        model = plain_model(model)
        check_in_memory(model, name)
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.edited_dtype: str | None = None  # "float32": editors hold their weights so (editbench.model.held_dtype)
        self.held: list[str] = []  # names of the weights that are held so
        self.origin: dict[str, str] = {}  # "source" and "precision" of a fetched model's weights, or a GGUF file's
        self.architecture = find_architecture(model, architecture)
        check_head(self)
        self.layers_return_tuples = returns_tuples(self)
        if self.architecture.packed_targets and not obeys_masks(self):
            self.architecture = replace(self.architecture, packed_targets=False)
        self.runs_trees = runs_trees(self)
        self._post_norms = find_post_norms(self)

    def __repr__(self) -> str:
        sizes = f"{self.n_layers} layers, {self.model.num_parameters():,} parameters"
        return f"<LanguageModel {self.name}: {type(self.model).__name__}, {sizes}, {self.model.dtype}, {self.device}>"

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        name: str | None = None,
        dtype: str = "float32",
        device: str | int = "auto",
        attention: str | None = None,
        revision: str | None = None,
        architecture: Any = None,
        edited_dtype: str | None = None,
    ) -> LanguageModel:
        """Load a model and tokenizer from a folder or the hub; options as in :class:`~editbench.config.ModelConfig`.

        The device "auto" is a GPU if there is one, else the CPU; a number is a GPU's.
        """
        model, tokenizer = load_pretrained(path, dtype, device, attention, revision)
        lm = cls(model, tokenizer, name=name or Path(str(path)).name, architecture=architecture)
        lm.edited_dtype = edited_dtype
        lm.origin = origin_of(path, dtype)
        return lm

    @property
    def config(self) -> Any:
        """The text model's configuration."""
        return text_config(self.model)

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)

    @property
    def max_length(self) -> int:
        """Positions that the model was trained for."""
        return int(getattr(self.config, "max_position_embeddings", 0) or 2048)

    @property
    def device(self) -> torch.device:
        """Device of the token embeddings: where input ids belong."""
        return self.device_of(self.model.get_input_embeddings())

    def device_of(self, module: nn.Module) -> torch.device:
        """Device on which a module runs, and where tensors beside it belong; a model may lie on several."""
        return device_of(module)

    @property
    def decoder(self) -> Any:
        """The model without its head."""
        return module_at(self.model, self.architecture.decoder)

    @property
    def layers(self) -> Any:
        """The ``ModuleList`` of decoder layers."""
        return module_at(self.model, self.architecture.layers)

    def layer(self, layer: int) -> nn.Module:
        """A decoder layer; a ValueError if it does not exist."""
        found: nn.Module = self.layers[self._check_layer(layer)]
        return found

    def attention(self, layer: int) -> nn.Module:
        """The attention of ``layer``, output projection included."""
        return module_at(self.layer(layer), self._editable.attention)

    def mlp_out(self, layer: int) -> nn.Module:
        """The MLP's second projection of ``layer``."""
        return module_at(self.layer(layer), self._editable.mlp_out)

    def mlp_out_name(self, layer: int) -> str:
        """Parameter name of the second projection's weight, from the model's root."""
        return f"{self.architecture.layers}.{self._check_layer(layer)}.{self._editable.mlp_out}.weight"

    def check_editable(self, layer: int) -> None:
        """Refuse a layer that an edit could not change: not there, or with weights that are quantised or offloaded."""
        weight = getattr(self.mlp_out(layer), "weight", None)
        dtype = getattr(weight, "dtype", None)
        if dtype not in DTYPES.values():
            holds = "no weight" if dtype is None else str(dtype).removeprefix("torch.")
            raise ValueError(
                f"{self.mlp_out_name(layer)} holds {holds}, which cannot take a change; load the model without "
                "quantisation, or give another layer"
            )
        self.weight(self.mlp_out_name(layer))

    @property
    def _editable(self) -> Architecture:
        """The architecture; an :class:`ArchitectureError` if it has no projection that an edit could change."""
        if self.architecture.no_edits:
            raise ArchitectureError(self.architecture.no_edits)
        return self.architecture

    def post_norm(self, layer: int) -> Behind | None:
        """The norm or factor between the MLP's output and that of ``layer``; None if the layer adds it unchanged."""
        return self._post_norms[self._check_layer(layer)]

    def d_ff(self, layer: int) -> int:
        """Input features of the second projection."""
        return projection_sizes(self.mlp_out(layer), self.architecture.mlp_out)[0]

    def weight(self, name: str) -> Tensor:
        """A parameter by name, as (out, in): a view, so writes reach the model; a ValueError for an offloaded one."""
        path, _, leaf = name.rpartition(".")
        module = module_at(self.model, path)
        parameter = getattr(module, leaf, None)
        if not isinstance(parameter, torch.Tensor):
            raise ArchitectureError(f"{path} has no parameter {leaf!r}")
        data = parameter.data
        check_changeable(data, f"{name} of {self.name}")
        return data.T if is_transposed(module) and leaf == "weight" else data

    def _check_layer(self, layer: int) -> int:
        if not 0 <= layer < len(self.layers):
            raise ValueError(f"layer {layer} does not exist: {self.name} has layers 0 to {len(self.layers) - 1}")
        return layer

    def encode(self, text: str) -> Encoded:
        """Token ids and offsets of a prompt, with the tokenizer's special tokens before it, none behind it.

        A ValueError for a token without a row in the model's embedding; so for :meth:`continuation`.
        """
        found = self._encode(text)
        return Encoded(list(found.ids), list(found.offsets))

    @cached_property
    def _encode(self) -> Callable[[str], Encoded]:
        def encoded(text: str) -> Encoded:
            found = encode(self.tokenizer, text)
            self._check_embedded(found.ids, text)
            return found

        return lru_cache(TEXTS)(encoded)

    def continuation(self, text: str, spaced: bool = True) -> list[int]:
        """Token ids of ``text`` behind a prompt: one leading space if ``spaced``, no BOS."""
        return list(self._continuation(text, spaced))

    @cached_property
    def _continuation(self) -> Callable[[str, bool], list[int]]:
        def ids(text: str, spaced: bool) -> list[int]:
            found = continuation(self.tokenizer, text, spaced)
            self._check_embedded(found, text)
            return found

        return lru_cache(TEXTS)(ids)

    def _check_embedded(self, ids: Sequence[int], text: str) -> None:
        """A ValueError for a token without an embedding, whose forward pass would be an IndexError (or worse)."""
        if max(ids, default=0) >= self.embeddings:
            first = next(i for i in ids if i >= self.embeddings)
            raise ValueError(
                f"{text!r} has the token {self.tokenizer.convert_ids_to_tokens(first)!r} (id {first}), but the "
                f"embedding of {self.name} has {self.embeddings} rows: the tokenizer has tokens that the model was not "
                "trained with; resize the model (resize_token_embeddings), or take its own tokenizer"
            )

    def spaced(self, prompt: str) -> bool:
        """Whether a space stands between a prompt and its answer; each prompt is looked at once."""
        return self._is_spaced(prompt)

    @cached_property
    def _is_spaced(self) -> Callable[[str], bool]:
        return cache(partial(is_spaced, self.tokenizer))

    def chat_format(self, system: str | None = None) -> PromptFormat:
        """The tokenizer's chat template around prompts, with a system message if one is given."""
        return chat_format(self.tokenizer, system)

    def unaskable(self, prompt: str, *answers: str) -> str | None:
        """The reason why a prompt with one of these answers behind it is not asked; None if it can be."""
        return self.unwritable(prompt, *answers) or self.too_long(prompt, *answers)

    def unwritable(self, prompt: str, *answers: str) -> str | None:
        """The reason why the model has no tokens for the prompt or for one of these answers behind it, or None.

        A token has no embedding, or an answer has the tokenizer's unknown token, which stands for any text.
        """
        try:
            self.encode(prompt)
            found = [(text, self.continuation(text, self.spaced(prompt))) for text in answers]
        except ValueError as error:
            return str(error)
        return next((why for text, ids in found if (why := self._unknown(text, ids)) is not None), None)

    def unwritable_subject(self, subject: str) -> str | None:
        """The reason why a subject is no text to the model, as for answers in :meth:`unwritable`; or None."""
        try:
            return self._unknown(subject, self.encode(subject).ids)
        except ValueError as error:
            return str(error)

    def _unknown(self, text: str, ids: Sequence[int]) -> str | None:
        unknown = self.tokenizer.unk_token_id
        if unknown is None or unknown not in ids or self.tokenizer.unk_token in text:
            return None
        return (
            f"the tokenizer cannot write {text!r}: it gives {self.tokenizer.unk_token} (id {unknown}), which stands "
            "for any text that it does not know"
        )

    def too_long(self, prompt: str, *answers: str) -> str | None:
        """The reason why a prompt with one of these answers behind it exceeds the model's length; None if none does.

        All tokens of an answer count, though the last is never an input: an end token may follow it.
        """
        tokens = len(self.encode(prompt).ids) + max(
            (len(self.continuation(text, self.spaced(prompt))) for text in answers), default=0
        )
        if tokens <= self.max_length:
            return None
        what = "prompt and answer take" if answers else "the prompt takes"
        return f"{what} {tokens} tokens, {self.name} has {self.max_length}"

    @property
    def embeddings(self) -> int:
        """Rows of the token embedding; a tokenizer may have more tokens, which the model cannot take."""
        weight = self.model.get_input_embeddings().weight
        return int(weight.shape[0] if weight.ndim == 2 else self.config.vocab_size)  # another module in its place

    @property
    def pad_id(self) -> int:
        """Id for padding: any id that has an embedding, since padding is masked everywhere."""
        for value in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if value is not None and value < self.embeddings:
                return int(value)
        return 0

    @property
    def end_ids(self) -> set[int]:
        """Every id that ends a text: the tokenizer's, and those of the model's generation settings."""
        named = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        ends = {*(named if isinstance(named, (list, tuple)) else [named]), self.tokenizer.eos_token_id}
        return {int(i) for i in ends if i is not None}

    def logits(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits (..., V) of final hidden states (..., d), in float32, or float64 if the model is."""
        head = module_at(self.model, self.architecture.head)
        cap = getattr(self.config, "final_logit_softcapping", None)
        return head_logits(head, hidden, cap, logit_scale(self.config))

    def hidden(self, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Any = None) -> Tensor:
        """Final hidden states (B, T, d) of ``ids`` (B, T) at ``positions`` (B, T), after the model's last norm.

        The mask (B, C + T) is 1 at tokens; C columns are in ``cache`` already, a transformers ``Cache`` that is read
        and added to. All are int64. A token tree's pass has no mask.
        """
        given = {"use_cache": False} if cache is None else {"use_cache": True, self._cache_keyword: cache}
        states: Tensor = self.decoder(
            input_ids=ids, attention_mask=mask, position_ids=positions, **given
        ).last_hidden_state
        return states

    @cached_property
    def _cache_keyword(self) -> str:
        return cache_keyword(type(self.decoder))

    @contextmanager
    def generation_settings(self, **settings: Any) -> Iterator[None]:
        """Within the block, ``model.generate`` uses ``settings`` and, for the rest, transformers' defaults.

        Without this, transformers would use the model's ``generation_config.json`` (temperature, penalty, length, …),
        of which only the ids that end a text are kept. Options of the call itself still come first.
        """
        from transformers import GenerationConfig

        ends = {"eos_token_id": sorted(self.end_ids) or None, "pad_token_id": self.pad_id}
        own = self.model.generation_config
        self.model.generation_config = GenerationConfig(**ends, **settings)
        try:
            yield
        finally:
            self.model.generation_config = own

    @torch.no_grad()
    def generate(self, prompts: str | Sequence[str], *, max_new_tokens: int = 10, **options: Any) -> list[str]:
        """Greedy continuations; ``options`` as for transformers' ``generate``, with transformers' defaults.

        A ValueError for numbers that are no counts, and for options by which it returns other things than texts.
        """
        counts = {
            name: options[name] for name in ("num_beams", "num_return_sequences") if options.get(name) is not None
        }
        whole_number(1, max_new_tokens=max_new_tokens, **counts)
        if options.get("return_dict_in_generate"):
            raise ValueError(
                "return_dict_in_generate is true, but texts are returned here; for scores call lm.model.generate, "
                "within editor.answering for methods that edit beside the weights"
            )
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not texts:
            return []
        rows = [self.encode(t).ids for t in texts]
        width = max(len(r) for r in rows)
        if width + max_new_tokens > self.max_length + 1:  # the last new token is no input
            raise ValueError(
                f"the longest prompt takes {width} tokens and {max_new_tokens} are to follow, {self.name} has "
                f"{self.max_length}; shorten it, or ask for fewer new tokens"
            )
        batch = PaddedBatch.pad(rows, [len(r) for r in rows], self.pad_id, self.device)
        with self.generation_settings(max_new_tokens=max_new_tokens):
            out = self.model.generate(input_ids=batch.ids, attention_mask=batch.mask, **options)
        return [str(t) for t in self.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)]

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of configuration, weights, buffers and tokenizer; computed once, so read it before an edit."""
        digest = hashlib.blake2b(digest_size=16)
        settings = {k: v for k, v in self.config.to_dict().items() if k not in _NO_NUMBERS}
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
        for name, tensor in stored_tensors(self.model):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            digest.update(tensor_bytes(tensor))
        digest.update(self.tokenizer.backend_tokenizer.to_str().encode())
        return digest.hexdigest()

    @property
    def numerics(self) -> dict[str, str]:
        """Facts besides weights and tokens that decide a forward pass's numbers, for the keys of caches.

        Number of threads and processor are left out: they change last bits only, and a cache may be shared.
        """
        import tokenizers
        import transformers

        return {
            "attention": str(self.config._attn_implementation),
            "device": self.device.type,
            "dtype": str(self.model.dtype),
            **({"in float32": ", ".join(self.held)} if self.held else {}),
            "float32_matmul": torch.get_float32_matmul_precision(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        }


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The raw bytes of a tensor of any dtype, on the CPU, in row-major order."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def load_model(model: Any, name: str | None = None, **options: Any) -> LanguageModel:
    """The model of a name ("pocket", "smollm2-135m"), folder, GGUF file, hub id or ``model`` config, ready to edit.

    ``name`` is shown in results; None takes the config's, or the last part of the path. ``options`` are those of
    :meth:`LanguageModel.load`; they precede the config's.
    """
    from editbench.model_places import model_place

    path = model
    if not isinstance(model, (str, Path)):
        path, name = model.path, name or getattr(model, "name", None)
        names = ("dtype", "device", "attention", "revision", "architecture", "edited_dtype")
        options = {**{key: getattr(model, key) for key in names}, **options}
    shown = name or Path(str(path)).name
    return LanguageModel.load(model_place(str(path)), name=shown, **options)
