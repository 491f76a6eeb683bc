"""How much of the pocket world a model knows."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from editbench.pocket.world import Fact

BATCH = 256


def recall(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact]) -> dict[str, float]:
    """Share of the facts that a model knows, by wording.

    A fact is known in a wording if each token of its object is the most likely one, given the prompt and the object's
    tokens before it.

    Returns:
        Shares for one trained statement and one trained question a fact, and for the held-out ones.
    """
    prompts = {
        "trained statements": [fact.statements[index % 5] for index, fact in enumerate(facts)],
        "trained questions": [fact.questions[index % 2] for index, fact in enumerate(facts)],
        "held-out statements": [fact.held_out_statement for fact in facts],
        "held-out questions": [fact.held_out_question for fact in facts],
    }
    objects = [fact.object for fact in facts]
    known = {name: known_objects(model, tokenizer, asked, objects) for name, asked in prompts.items()}
    return {name: sum(hits) / len(hits) for name, hits in known.items()}


@torch.no_grad()
def known_objects(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], objects: Sequence[str]
) -> list[bool]:
    """Whether each object is, token for token, the model's first choice after its prompt."""
    rows: list[tuple[list[int], int]] = []
    for prompt, answer in zip(prompts, objects, strict=True):
        prompt_ids = tokenizer(prompt).input_ids
        rows.append((prompt_ids + tokenizer(f" {answer}", add_special_tokens=False).input_ids, len(prompt_ids)))
    order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))  # little padding
    known = [False] * len(rows)
    for batch in _batches(order):
        width = max(len(rows[index][0]) for index in batch)
        ids = torch.tensor([rows[index][0] + [0] * (width - len(rows[index][0])) for index in batch])  # (B, T)
        mask = torch.tensor([[1] * len(rows[index][0]) + [0] * (width - len(rows[index][0])) for index in batch])
        choices = model(ids, attention_mask=mask, use_cache=False).logits.argmax(-1)  # (B, T)
        for row, index in enumerate(batch):
            tokens, start = rows[index]
            known[index] = choices[row, start - 1 : len(tokens) - 1].tolist() == tokens[start:]
    return known


def _batches(order: list[int]) -> Iterator[list[int]]:
    rest = iter(order)
    while batch := list(islice(rest, BATCH)):
        yield batch
