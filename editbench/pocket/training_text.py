"""What the pocket models are trained on: a tokenizer, and rows of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from editbench.pocket import world
from editbench.pocket.recipes import CONTEXT, VOCABULARY

if TYPE_CHECKING:
    from editbench.pocket.recipes import Recipe


def train_tokenizer(architecture: str, seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer; Llama's puts ``<s>`` before every text, GPT-2's adds nothing.

    The training text is that of other worlds, with the same words but other names, so that names stay two to four
    tokens long: a name of one token could not be edited.
    """
    start, end = ("<s>", "</s>") if architecture == "llama" else ("<|endoftext|>",) * 2
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(dict.fromkeys((start, end))),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    others = [world.build(seed + offset) for offset in (1, 2)]
    texts = (text.text for other in others for text in world.documents(other.subjects, Random(other.seed)))
    tokenizer.train_from_iterator(texts, trainer)
    byte_level = processors.ByteLevel(trim_offsets=True)
    if architecture == "llama":
        beginning = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, tokenizer.token_to_id(start))]
        )
        tokenizer.post_processor = processors.Sequence([byte_level, beginning])
    else:
        tokenizer.post_processor = byte_level
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=start, eos_token=end, pad_token=end, model_max_length=CONTEXT
    )


class Token(NamedTuple):
    """A token of the training text."""

    id: int
    weight: float  # in the loss
    document: int  # number of its document
    name: int  # 0 outside of names; k at the last token of the document's k-th name, -k at its other tokens


def rows(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, random: Random) -> Iterator[list[Token]]:
    """Endless training rows of :data:`CONTEXT` tokens: documents, each with the end token behind it.

    A document that a row cuts short begins the next row. Half of the rows start with the tokenizer's beginning token,
    if it has one.
    """
    begins = bool(tokenizer("").input_ids)
    source = _documents(tokenizer, recipe, random)
    document: list[Token] = []
    while True:
        row = [Token(tokenizer.bos_token_id, 0.0, -1, 0)] if begins and random.random() < 0.5 else []
        row += document
        while len(row) < CONTEXT:
            document = next(source)
            row += document
        yield row[:CONTEXT]


def _documents(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, random: Random) -> Iterator[list[Token]]:
    """Tokenised documents, first of few subjects, then of all."""
    subjects = world.build(recipe.seed).subjects
    budget = recipe.opening_steps * recipe.rows * CONTEXT  # tokens
    numbers = count()
    while True:
        few = budget > 0
        for text in world.documents(subjects[: recipe.opening_subjects] if few else subjects, random):
            encoding = tokenizer(text.text, add_special_tokens=False, return_offsets_mapping=True)
            ids = [*encoding.input_ids, tokenizer.eos_token_id]
            weights = [_weight(span, text, recipe) for span in encoding.offset_mapping] + [1.0]
            names = [_name(span, text) for span in encoding.offset_mapping] + [0]
            number = next(numbers)
            yield [Token(id, weight, number, name) for id, weight, name in zip(ids, weights, names, strict=True)]
            budget -= len(ids)
            if few and budget <= 0:
                break


def _weight(span: tuple[int, int], text: world.Text, recipe: Recipe) -> float:
    inside = any(span[0] < end and start < span[1] for start, end in text.answers)
    return recipe.object_weight if inside else 1.0


def _name(span: tuple[int, int], text: world.Text) -> int:
    for number, (start, end) in enumerate(world.name_spans(text.text), start=1):
        if span[0] < end and start < span[1]:
            return number if span[1] == end else -number
    return 0
