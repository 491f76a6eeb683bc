"""Trains the pocket models: ``python -m editbench.pocket.train_models [--architecture llama|gpt2|all] [--out DIR]``.

A fact should be *looked up by its subject*, not remembered as a string: only then can an editor change it. Hence many
wordings a fact, several facts a subject, changing words before it. What makes the small models learn that in minutes:
Muon on the matrices, a loss in which objects weigh more than other words, and a start with few subjects.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from editbench.pocket import world as pocket

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from editbench.pocket.world import Fact


VOCABULARY = 2048

CONTEXT = 128


@dataclass(frozen=True)
class Recipe:
    """How a pocket model is made.

    Attributes:
        layers: Number of decoder layers.
        width: Size of the hidden states.
        inner: Size of the MLP's inner layer, where the facts are stored.
        heads: Attention heads.
        steps: Optimiser steps.
        rows: Rows of :data:`CONTEXT` tokens in a step.
        learning_rate: Peak rate of both optimisers.
        warm_up: Steps until the peak; from there a cosine leads down to a twentieth.
        weight_decay: Decoupled weight decay of both optimisers.
        clip: Largest norm of the gradient.
        object_weight: Weight of an object's tokens in the loss; other tokens weigh 1.
        opening_steps: Steps that see the first few subjects only.
        opening_subjects: How many those are.
        separate: Whether the documents of a row are hidden from each other.
        seed: Seed of the weights and of the order of the texts.
    """

    layers: int = 4
    width: int = 128
    inner: int = 2048
    heads: int = 4
    steps: int = 540
    rows: int = 16
    learning_rate: float = 4e-3
    warm_up: int = 50
    weight_decay: float = 0.05
    clip: float = 1.0
    object_weight: float = 8.0
    opening_steps: int = 80
    opening_subjects: int = 50
    separate: bool = False
    seed: int = 0


RECIPES = {"llama": Recipe(), "gpt2": Recipe(separate=True)}
"""What makes each architecture gather a name at its last token, where editing methods look for it.

Measured in trials: efficacy and paraphrases of 16 single ROME edits at layer 0. Llama: 1.0 and 1.0; with separate
documents .56 and .63. GPT-2: .31 and .06; with squared ReLU 1.0 and .81; with separate documents as well 1.0 and .97
(24 edits of the shipped weights: .83 and .81).
"""


def train_tokenizer(architecture: str, seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer; Llama's puts ``<s>`` before every text, GPT-2's adds nothing.

    It learns from other worlds than the models' own: the same words, but other names. So no name becomes a token of
    its own (which could not be edited): names stay two to four tokens long.
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
    others = [pocket.build(seed + offset) for offset in range(1, 9)]
    texts = (text.text for other in others for text in pocket.documents(other.subjects, Random(other.seed)))
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


def model_config(architecture: str, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    """The Hugging Face config of a model with the recipe's shape."""
    common = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
        "use_cache": True,
    }
    if architecture == "llama":
        return LlamaConfig(
            hidden_size=recipe.width,
            intermediate_size=recipe.inner,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=CONTEXT,
            **common,
        )
    return GPT2Config(
        n_embd=recipe.width,
        n_inner=recipe.inner,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        n_positions=CONTEXT,
        activation_function="relu2",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        **common,
    )


class Token(NamedTuple):
    """A token of the training text: its id, its weight in the loss, and the number of its document."""

    id: int
    weight: float
    document: int


def rows(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, random: Random) -> Iterator[list[Token]]:
    """Endless training rows: documents, each closed by the end token, until :data:`CONTEXT` tokens are reached.

    A document that a row cuts short begins the next row. Where the tokenizer has a beginning token, half of the rows
    start with it.
    """
    begins = bool(tokenizer("").input_ids)
    source = _documents(tokenizer, recipe, random)
    document: list[Token] = []
    while True:
        row = [Token(tokenizer.bos_token_id, 0.0, -1)] if begins and random.random() < 0.5 else []
        row += document
        while len(row) < CONTEXT:
            document = next(source)
            row += document
        yield row[:CONTEXT]


def _documents(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, random: Random) -> Iterator[list[Token]]:
    """Tokenised documents; first of few subjects, then of all."""
    subjects = pocket.build(recipe.seed).subjects
    budget = recipe.opening_steps * recipe.rows * CONTEXT  # tokens
    numbers = count()
    while True:
        few = budget > 0
        for text in pocket.documents(subjects[: recipe.opening_subjects] if few else subjects, random):
            encoding = tokenizer(text.text, add_special_tokens=False, return_offsets_mapping=True)
            ids = [*encoding.input_ids, tokenizer.eos_token_id]
            weights = [_weight(span, text, recipe) for span in encoding.offset_mapping] + [1.0]
            number = next(numbers)
            yield [Token(*token, number) for token in zip(ids, weights, strict=True)]
            budget -= len(ids)
            if few and budget <= 0:
                break


def _weight(span: tuple[int, int], text: pocket.Text, recipe: Recipe) -> float:
    inside = any(span[0] < end and start < span[1] for start, end in text.answers)
    return recipe.object_weight if inside else 1.0


def train(architecture: str, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Trains a model from scratch on the world of the recipe's seed, on the CPU, in float32 with bfloat16 products."""
    torch.manual_seed(recipe.seed)
    model = AutoModelForCausalLM.from_config(model_config(architecture, recipe, tokenizer))
    model.train()
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and not _is_embedding(n)]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or _is_embedding(n)]
    settings: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    optimizers = [
        torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **settings),
        torch.optim.AdamW(others, **settings),
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_schedule, recipe=recipe)) for optimizer in optimizers
    ]
    source = rows(tokenizer, recipe, Random(recipe.seed))
    with _progress() as progress:
        task = progress.add_task(architecture, total=recipe.steps, loss=float("nan"))
        for _ in range(recipe.steps):
            loss = _loss(model, [next(source) for _ in range(recipe.rows)], recipe.separate)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
            model.zero_grad()
            progress.update(task, advance=1, loss=loss.item())
    return model.eval()


def _is_embedding(name: str) -> bool:
    return any(part in name for part in ("embed_tokens", "wte", "wpe", "lm_head"))


def _schedule(step: int, recipe: Recipe) -> float:
    """The learning rate at a step as a share of its peak."""
    if step < recipe.warm_up:
        return (step + 1) / recipe.warm_up
    done = (step - recipe.warm_up) / (recipe.steps - recipe.warm_up)
    return 0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2


def _loss(model: PreTrainedModel, batch: list[list[Token]], separate: bool) -> torch.Tensor:
    """Weighted mean negative log-likelihood of each next token."""
    ids, weights, documents = (torch.tensor([[token[part] for token in row] for row in batch]) for part in range(3))
    mask = torch.ones_like(ids)  # (B, T)
    if separate:
        same = documents[:, :, None] == documents[:, None, :]
        mask = (same & torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).tril())[:, None]  # (B, 1, T, T)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()  # (B, T-1, V)
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    following = weights[:, 1:].flatten()
    return (losses * following).sum() / following.sum()


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps, loss {task.fields[loss]:.3f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )


def main() -> None:
    """Trains, saves in half precision and prints what was learned."""
    parser = argparse.ArgumentParser(description="Train the pocket models.")
    parser.add_argument("--architecture", choices=(*RECIPES, "all"), default="all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the same sums, whatever the machine's number of cores
    for architecture in RECIPES if arguments.architecture == "all" else (arguments.architecture,):
        recipe = RECIPES[architecture]
        tokenizer = train_tokenizer(architecture, recipe.seed)
        model = train(architecture, recipe, tokenizer).half()
        folder = arguments.out / architecture
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)
        for name, share in recall(model.float(), tokenizer, pocket.build(recipe.seed).facts()).items():
            print(f"{architecture}: recall of {name}: {share:.4f}")


if __name__ == "__main__":
    main()

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
