"""The model: a language model with its tokenizer and architecture, as every other room sees it."""

from __future__ import annotations

import hashlib
import inspect
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from editbench.model.architectures import (
    Architecture,
    ArchitectureError,
    find_architecture,
    is_transposed,
    module_at,
    projection_sizes,
)
from editbench.model.post_norms import PostNorm, find_post_norms

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn


DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}

CPU_NUMBERS, GPU_NUMBERS = 1 << 20, 1 << 26
"""Numbers of a head in half precision that are widened at once: what stays in a CPU's caches, 256 MiB on a GPU."""

_NOT_IDENTITY = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache")
"""Configuration that does not change what the model computes; the weights' dtype is hashed with them."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tokenised text. ``offsets[i]`` is the character span of token i; special tokens have an empty span."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class LanguageModel:
    """A causal language model in evaluation mode, frozen, with what editing and scoring need to know about it.

    Attributes:
        model: The transformers model.
        tokenizer: A fast tokenizer (character offsets are needed to find subjects).
        architecture: Where the model keeps its parts.
        name: Name shown in results.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, name: str = "model", architecture: Mapping[str, Any] | None = None
    ) -> None:
        """Wrap a loaded model.

        Args:
            model: A transformers causal language model.
            tokenizer: Its fast tokenizer.
            name: Name shown in results.
            architecture: Paths for an architecture that is not known (see :mod:`editbench.model.architectures`).

        Raises:
            ArchitectureError: The architecture is unknown or does not match its table entry, or a layer does with its
                MLP's output what edits cannot follow (see :mod:`editbench.model.post_norms`).
            ValueError: The tokenizer gives no character offsets.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"the tokenizer {type(tokenizer).__name__} of {name!r} gives no character offsets, which finding "
                "subjects needs; load a fast tokenizer (a tokenizer.json beside the weights)"
            )
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.architecture: Architecture = find_architecture(model, architecture)
        self._check_head()
        self._post_norms = find_post_norms(self.model, self.architecture, self.device)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        name: str | None = None,
        dtype: str = "float32",
        device: str = "auto",
        attention: str | None = None,
        revision: str | None = None,
        architecture: Mapping[str, Any] | None = None,
    ) -> LanguageModel:
        """Load a model and tokenizer from a folder or the hub.

        Args:
            path: Folder, or hub id.
            name: Name shown in results; the last part of the path by default.
            dtype: "float32", "float64", "bfloat16" or "float16".
            device: "auto" (a GPU if there is one, else the CPU), "cpu", "cuda:0", …, or "spread" over all GPUs.
            attention: Attention implementation, "sdpa" or "eager"; the architecture's own choice by default.
            revision: Hub revision.
            architecture: Paths for an architecture that is not known.

        Raises:
            FileNotFoundError: Neither a folder with a model nor reachable on the hub.
            ValueError: Unknown dtype.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from editbench.checks import unknown

        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)
        options: dict[str, Any] = {"dtype": DTYPES[dtype], "attn_implementation": attention, "revision": revision}
        if device == "spread":
            options["device_map"] = "auto"
        try:
            model = AutoModelForCausalLM.from_pretrained(str(path), trust_remote_code=False, **options)
            tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, revision=revision)
        except (OSError, ValueError) as error:  # a folder without a usable config.json gives a ValueError
            raise FileNotFoundError(_no_model(path, error)) from error
        if device != "spread":
            model.to(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        return cls(model, tokenizer, name=name or Path(str(path)).name, architecture=architecture)

    # -- sizes and parts ------------------------------------------------------------------------------------------

    @property
    def config(self) -> Any:
        """The text model's configuration."""
        config = self.model.config
        return config.get_text_config() if hasattr(config, "get_text_config") else config

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)

    @property
    def max_length(self) -> int:
        """Positions that the model was built for."""
        return int(getattr(self.config, "max_position_embeddings", 0) or 2048)

    @property
    def device(self) -> torch.device:
        """Device of the token embeddings: where input ids belong."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def decoder(self) -> Any:
        """The model without its head."""
        return module_at(self.model, self.architecture.decoder)

    @property
    def layers(self) -> Any:
        """The ``ModuleList`` of decoder layers."""
        return module_at(self.model, self.architecture.layers)

    def mlp_out(self, layer: int) -> nn.Module:
        """The MLP's second projection of ``layer``."""
        return module_at(self.layers[self._check_layer(layer)], self.architecture.mlp_out)

    def mlp_out_name(self, layer: int) -> str:
        """Parameter name of the second projection's weight, from the model's root."""
        return f"{self.architecture.layers}.{self._check_layer(layer)}.{self.architecture.mlp_out}.weight"

    def post_norm(self, layer: int) -> PostNorm | None:
        """The norm that the MLP's output goes through before it leaves ``layer``; None if it is added as it is."""
        return self._post_norms[self._check_layer(layer)]

    def d_ff(self, layer: int) -> int:
        """Input features of the second projection."""
        return projection_sizes(self.mlp_out(layer), self.architecture.mlp_out)[0]

    def weight(self, name: str) -> Tensor:
        """A parameter by name, oriented (out, in) whatever the module stores: a view, so writes reach the model.

        Raises:
            ArchitectureError: No such parameter.
        """
        path, _, leaf = name.rpartition(".")
        module = module_at(self.model, path)
        parameter = getattr(module, leaf, None)
        if not isinstance(parameter, torch.Tensor):
            raise ArchitectureError(f"{path} has no parameter {leaf!r}")
        data = parameter.data
        return data.T if is_transposed(module) and leaf == "weight" else data

    # -- text and tokens ------------------------------------------------------------------------------------------

    def encode(self, text: str) -> Encoded:
        """Token ids of a prompt, with the special tokens that the tokenizer puts before it (BOS or none).

        What it would put behind it (EOS, [SEP]) is left out: the answer comes there.
        """
        batch = self._tokenise(text)
        end = len(batch["input_ids"]) - self._appended(batch)
        return Encoded(list(batch["input_ids"])[:end], [tuple(o) for o in batch["offset_mapping"][:end]])

    def too_long(self, prompt: str, *answers: str) -> str | None:
        """Why the model cannot take a prompt with each of these answers behind it; None where it can.

        All tokens of an answer count, though its last is never fed in: an end token may follow it.
        """
        tokens = len(self.encode(prompt).ids) + max((len(self.continuation(text)) for text in answers), default=0)
        if tokens <= self.max_length:
            return None
        what = "prompt and answer take" if answers else "the prompt takes"
        return f"{what} {tokens} tokens, {self.name} has {self.max_length}"

    def continuation(self, text: str) -> list[int]:
        """Token ids of ``text`` as the continuation of a prompt: one leading space, no BOS, whatever the tokenizer.

        The ids are read off behind an anchor character, since some tokenizers treat the start of a text in a way of
        their own (SentencePiece prepends a space there, which would double ours).

        Raises:
            ValueError: The tokenizer merges the space with every anchor, or the text has no token.
        """
        spaced = text if text.startswith(" ") else " " + text
        for anchor in ("x", ".", ":"):
            head = self._plain_ids(anchor)
            both = self._plain_ids(anchor + spaced)
            if both[: len(head)] == head and len(both) > len(head):
                return both[len(head) :]
        raise ValueError(
            f"cannot tokenise {text!r} as the continuation of a prompt with {type(self.tokenizer).__name__}"
        )

    @property
    def pad_id(self) -> int:
        """Id for padding; masked everywhere, so that any id will do that the model has an embedding for."""
        known = self.model.get_input_embeddings().weight.shape[0]
        for value in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if value is not None and value < known:
                return int(value)
        return 0

    def logits(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits (..., V) of final hidden states (..., d) as :attr:`decoder` returns them.

        They are computed in float32, or float64 if the model is: a head in half precision would round them to 8 or 11
        bits, which moves a log-likelihood in its second digit.
        """
        head = module_at(self.model, self.architecture.head)
        weight: Tensor = head.weight  # type: ignore[assignment]
        if weight.dtype in (torch.float32, torch.float64):
            out: Tensor = head(hidden.to(weight))
        else:
            assert not weight.requires_grad, "the head is frozen"
            out = _WideProduct.apply(hidden.to(weight.device, torch.float32), weight)  # type: ignore[no-untyped-call]
            bias = getattr(head, "bias", None)
            out = out if bias is None else out + bias.float()
        cap = getattr(self.config, "final_logit_softcapping", None)
        return torch.tanh(out / cap) * cap if cap else out

    def hidden(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any = None) -> Tensor:
        """Final hidden states (B, T, d), after the model's last norm, of the columns whose ids are given.

        Args:
            ids: (B, T) int64.
            mask: (B, C + T) int64, 1 at tokens; C columns are in the cache already.
            positions: (B, T) int64.
            cache: A transformers ``Cache``, read and added to.
        """
        given = {} if cache is None else {self._cache_keyword: cache}
        out = self.decoder(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=cache is not None, **given
        )
        states: Tensor = out.last_hidden_state
        return states

    @property
    def end_ids(self) -> set[int]:
        """Every id that ends a text: the tokenizer's, and those of the model's generation settings."""
        named = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        ends = {*(named if isinstance(named, (list, tuple)) else [named]), self.tokenizer.eos_token_id}
        return {int(i) for i in ends if i is not None}

    @contextmanager
    def generation_settings(self, **settings: Any) -> Iterator[None]:
        """Within the block, the model's ``generate`` goes by ``settings``, for the rest by transformers' defaults.

        Transformers would fill in what a call leaves open from the settings that came with the model
        (``generation_config.json``: a temperature, a penalty, a length, …). They are set aside, but for the ids that
        end a text. Options of the call itself come first, as ever.
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
        """Greedy continuations of ``prompts``.

        Args:
            prompts: One or several.
            max_new_tokens: Limit of new tokens.
            options: Sampling, beams, penalties, …, as transformers' ``generate`` takes them. What is not given is
                transformers' own default, whatever the settings are that came with the model.

        Raises:
            ValueError: The model has no positions for the longest prompt and the new tokens.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        rows = [self.encode(t).ids for t in texts]
        width = max(len(r) for r in rows)
        if width + max_new_tokens > self.max_length + 1:  # the last new token is not fed in
            raise ValueError(
                f"the longest prompt takes {width} tokens and {max_new_tokens} are to follow, {self.name} has "
                f"{self.max_length}; shorten it, or ask for fewer new tokens"
            )
        ids = torch.tensor([[self.pad_id] * (width - len(r)) + r for r in rows], device=self.device)
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows], device=self.device)
        with self.generation_settings(max_new_tokens=max_new_tokens):
            out = self.model.generate(input_ids=ids, attention_mask=mask, **options)
        return [str(t) for t in self.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)]

    # -- identity -------------------------------------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of configuration, weights, buffers and tokenizer. Taken once: ask before the first edit."""
        digest = hashlib.blake2b(digest_size=16)
        settings = {k: v for k, v in self.config.to_dict().items() if k not in _NOT_IDENTITY}
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            digest.update(tensor_bytes(tensor))
        digest.update(self.tokenizer.backend_tokenizer.to_str().encode())
        return digest.hexdigest()

    @property
    def numerics(self) -> dict[str, str]:
        """What decides the numbers of a forward pass besides weights and tokens, for the key of whatever is cached.

        The number of threads and the make of a processor are left out: they move last bits, and a cache may be shared.
        """
        import tokenizers
        import transformers

        return {
            "attention": str(self.config._attn_implementation),
            "device": self.device.type,
            "dtype": str(self.model.dtype),
            "float32_matmul": torch.get_float32_matmul_precision(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        }

    # -- private --------------------------------------------------------------------------------------------------

    @cached_property
    def _cache_keyword(self) -> str:
        return cache_keyword(type(self.decoder))

    def _tokenise(self, text: str) -> Any:
        return self.tokenizer(
            text,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_attention_mask=False,
            verbose=False,
        )

    def _appended(self, batch: Any) -> int:
        """How many special tokens the tokenizer has put behind a text; a text without tokens does not show it."""
        mask = list(batch["special_tokens_mask"])
        mask = mask if 0 in mask else list(self._tokenise("x")["special_tokens_mask"])
        return mask[::-1].index(0) if 0 in mask else 0

    def _plain_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, return_attention_mask=False)["input_ids"])

    def _check_layer(self, layer: int) -> int:
        if not 0 <= layer < len(self.layers):
            raise ValueError(f"layer {layer} does not exist: {self.name} has layers 0 to {len(self.layers) - 1}")
        return layer

    @torch.no_grad()
    def _check_head(self) -> None:
        """The decoder and the head found by architecture, put together, must be the model: checked on one token."""
        ids = torch.zeros((1, 2), dtype=torch.long, device=self.device)
        mask, positions = torch.ones_like(ids), torch.arange(2, device=self.device)[None]
        whole = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
        ours = self.logits(self.hidden(ids, mask, positions))
        rounding = 2 * torch.finfo(whole.dtype).eps * float(ours.abs().max())  # the model's own head may be in bfloat16
        if whole.shape != ours.shape or not torch.allclose(whole.to(ours), ours, rtol=1e-2, atol=1e-3 + rounding):
            raise ArchitectureError(
                f"{type(self.model).__name__}: {self.architecture.decoder} followed by {self.architecture.head} does "
                "not give the model's own logits (it scales or caps them in a way that is not known here)"
            )


class _WideProduct(torch.autograd.Function):
    """x Wᵀ in float32, of x (..., d) in float32 and a frozen W (V, d) in half precision.

    Neither here nor for the gradient is all of W in float32 at once: that would be 2 GB for Llama-3-8B.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """(..., V)."""
        ctx.save_for_backward(weight)
        out = x.new_empty(*x.shape[:-1], len(weight))
        for rows in _head_chunks(weight):
            out[..., rows] = x @ weight[rows].float().T
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """(..., d)."""
        (weight,), (gradient,) = ctx.saved_tensors, gradients
        out = gradient.new_zeros(*gradient.shape[:-1], weight.shape[1])
        for rows in _head_chunks(weight):
            out += gradient[..., rows] @ weight[rows].float()
        return out, None


def _head_chunks(weight: Tensor) -> list[slice]:
    """Rows of a head (V, d) that are widened together."""
    size = max(1, (CPU_NUMBERS if weight.device.type == "cpu" else GPU_NUMBERS) // weight.shape[1])
    return [slice(start, start + size) for start in range(0, len(weight), size)]


def cache_keyword(decoder: type[nn.Module]) -> str:
    """The name under which a decoder's ``forward`` takes its key-value cache; transformers has renamed it.

    It has to be in the signature: a wrong name would vanish among further keywords, and the cache with it.

    Raises:
        ArchitectureError: It is under none of the names known here.
    """
    names = ("cache", "past_key_values")
    taken = inspect.signature(decoder.forward).parameters
    for name in names:
        if name in taken:
            return name
    raise ArchitectureError(
        f"{decoder.__name__}.forward takes no key-value cache as {' or '.join(names)} (it takes {', '.join(taken)}); "
        "this version of transformers is not supported"
    )


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The raw bytes of a tensor of any dtype, on the CPU, in row-major order."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def _no_model(path: str | Path, error: Exception) -> str:
    folder = Path(str(path))
    reason = str(error).strip().splitlines()[0]
    if folder.is_dir():
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        return f"no model could be loaded from the folder {folder} (it holds {found}): {reason}"
    return (
        f"no model at {str(path)!r}: there is no such folder, and the hub did not give one ({reason}). Give a local "
        "folder with model.path=DIR, or check the network and the hub id"
    )


def load_model(settings: Any, name: str | None = None) -> LanguageModel:
    """The model that a name, path or ``model`` config stands for, ready to edit.

    Args:
        settings: "pocket", "pocket-gpt2", a folder, a hub id; or a config with ``path`` and loading options.
        name: Name shown in results.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: Unknown dtype, architecture or option.
    """
    from editbench import pocket
    from editbench.model.language_model import LanguageModel

    options: dict[str, Any] = {}
    path = settings
    if not isinstance(settings, (str, Path)):
        path = settings.path
        options = {
            "dtype": settings.dtype,
            "device": settings.device,
            "attention": settings.attention,
            "revision": settings.revision,
            "architecture": asdict(settings.architecture),
        }
        name = name or settings.name
    shown = name or Path(str(path)).name
    if str(path) in pocket.MODELS:
        path = pocket.model_path(str(path))
    return LanguageModel.load(path, name=shown, **options)
