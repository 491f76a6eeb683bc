"""Tokenisation of prompts and of the answers behind them, the same for every fast tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from editbench.words import needs_space


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tokenised text. ``offsets[i]`` is the character span of token i; special tokens have an empty span."""

    ids: list[int]
    offsets: list[tuple[int, int]]


def check_tokenizer(tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer without character offsets (ValueError)."""
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"the tokenizer {type(tokenizer).__name__} of {name!r} gives no character offsets, which finding "
            "subjects needs; load a fast tokenizer (a tokenizer.json beside the weights)"
        )


def encode(tokenizer: Any, text: str) -> Encoded:
    """Token ids of a prompt, with the tokenizer's special tokens before it (BOS or none), not those behind it (EOS)."""
    batch = _tokenise(tokenizer, text)
    mask = list(batch["special_tokens_mask"])
    mask = mask if 0 in mask else list(_tokenise(tokenizer, "x")["special_tokens_mask"])  # a text without tokens
    end = len(batch["input_ids"]) - (mask[::-1].index(0) if 0 in mask else 0)
    return Encoded(list(batch["input_ids"])[:end], [tuple(o) for o in batch["offset_mapping"][:end]])


def continuation(tokenizer: Any, text: str, spaced: bool = True) -> list[int]:
    """Token ids of ``text`` behind a prompt: one leading space if ``spaced``, else none; no BOS.

    The ids are those behind an anchor character, since some tokenizers change the start of a text (SentencePiece
    prepends a space).
    """
    behind = text.lstrip(" ") if not spaced else text if text.startswith(" ") else " " + text
    for anchor in ("x", ".", ":") if spaced else ("\n", "(", ":", "。"):
        before, both = _plain_ids(tokenizer, anchor), _plain_ids(tokenizer, anchor + behind)
        if both[: len(before)] == before and len(both) > len(before):
            return both[len(before) :]
    raise ValueError(f"cannot tokenise {text!r} as the continuation of a prompt with {type(tokenizer).__name__}")


def is_spaced(tokenizer: Any, prompt: str) -> bool:
    """Whether a space stands between a prompt and its answer (:func:`editbench.words.needs_space`).

    None stands behind a special token: the mark of a chat template, with which the model's answer begins.
    """
    special = tuple(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return needs_space(prompt) and not prompt.endswith(special)


def _tokenise(tokenizer: Any, text: str) -> Any:
    options = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "return_attention_mask": False}
    return tokenizer(text, verbose=False, **options)


def _plain_ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, return_attention_mask=False)["input_ids"])
