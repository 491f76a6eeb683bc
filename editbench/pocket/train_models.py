"""Training of the pocket models: ``python -m editbench.pocket.train_models [--architecture llama|gpt2] [--out DIR]``.

An editor can only change a fact that the model looks up by its subject, not one that it remembers as a string: hence
many statements a fact, several facts a subject, changing words before the subject. A small model learns that in minutes
with Muon on the matrices, a loss in which objects weigh more than other words, and a start with few subjects.

Shape letters: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.progress import Progress
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from editbench.model import likelihood
from editbench.model.language_model import LanguageModel
from editbench.pocket import world as pocket
from editbench.pocket.muon import Muon

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from editbench.pocket.world import Fact


VOCABULARY = 2048

CONTEXT = 128


@dataclass(frozen=True)
class Recipe:
    """Size and training of a pocket model."""

    layers: int = 6  # decoder layers
    width: int = 192  # size of the hidden states
    inner: int = 768  # size of the MLP's inner layer, where the facts are stored
    heads: int = 4  # attention heads
    silent: tuple[int, ...] = (1, 2, 3)  # layers whose attention adds nothing
    dropped: tuple[int, ...] = (0, 1, 2, 3)  # layers whose MLP output is dropped for a whole row in training
    drop: float = 0.15  # probability of that
    steps: int = 1000  # optimiser steps
    rows: int = 16  # rows of CONTEXT tokens in a step
    learning_rate: float = 4e-3  # peak rate of both optimisers
    warm_up: int = 50  # steps up to the peak, before a cosine down to a twentieth
    weight_decay: float = 0.05  # decoupled weight decay of both optimisers
    clip: float = 1.0  # largest norm of the gradient
    object_weight: float = 8.0  # weight of an object's tokens in the loss; other tokens weigh 1
    opening_steps: int = 80  # steps on the first few subjects only
    opening_subjects: int = 50  # number of these subjects
    separate: bool = False  # hide the documents of a row from each other
    seed: int = 0  # seed of the weights and of the order of the texts


RECIPES = {"llama": Recipe(), "gpt2": Recipe(separate=True)}
"""Recipes with which each architecture gathers a name at its last token, where editing methods look for it.

Trials: efficacy and paraphrases of 16 single ROME edits at layer 0. Llama: 1.0 and 1.0; with separate documents .56 and
.63. GPT-2: .31 and .06; with squared ReLU 1.0 and .81; with separate documents as well 1.0 and .97 (24 edits of the
shipped weights: .83 and .81).
"""


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
    others = [pocket.build(seed + offset) for offset in (1, 2)]
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
    """The Hugging Face config of the recipe's model."""
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    common = {"vocab_size": len(tokenizer), **ids, "tie_word_embeddings": True, "use_cache": True}
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
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        **common,
    )


class Token(NamedTuple):
    """A token of the training text: id, weight in the loss, number of the document."""

    id: int
    weight: float
    document: int


def rows(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, random: Random) -> Iterator[list[Token]]:
    """Endless training rows of :data:`CONTEXT` tokens: documents, each with the end token behind it.

    A document that a row cuts short begins the next row. Half of the rows start with the tokenizer's beginning token,
    if it has one.
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
    """Tokenised documents, first of few subjects, then of all."""
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


def train(
    architecture: str, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, device: str = "cpu"
) -> PreTrainedModel:
    """A model trained from scratch on the world of the recipe's seed, in float32."""
    torch.manual_seed(recipe.seed)
    model = AutoModelForCausalLM.from_config(model_config(architecture, recipe, tokenizer)).to(device)
    model.train()
    silent = _silence(model, recipe)
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    matrices = [weight for name, weight in trained if weight.ndim == 2 and not _is_embedding(name)]
    others = [weight for name, weight in trained if weight.ndim != 2 or _is_embedding(name)]
    settings: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    optimizers = [
        Muon(matrices, **settings),
        torch.optim.AdamW(others, **settings),
    ]
    share = partial(_schedule, recipe=recipe)
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, share) for optimizer in optimizers]
    source = rows(tokenizer, recipe, Random(recipe.seed))
    hooks = _drop_outputs(model, recipe)
    with Progress() as progress:
        task = progress.add_task(architecture, total=recipe.steps)
        for _ in range(recipe.steps):
            loss = _loss(model, [next(source) for _ in range(recipe.rows)], recipe.separate)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
            model.zero_grad()
            progress.update(task, advance=1, description=f"{architecture}, loss {loss.item():.3f}")
    for hook in hooks:
        hook.remove()
    for attention in silent:
        del attention.forward
    return model.eval()


def _blocks(model: PreTrainedModel) -> Sequence[torch.nn.Module]:
    base = model.base_model
    return base.h if hasattr(base, "h") else base.layers


def _silence(model: PreTrainedModel, recipe: Recipe) -> list[torch.nn.Module]:
    """Set all weights of the silent layers' attention to zero, for good; it is not computed in training."""
    blocks = [_blocks(model)[layer] for layer in recipe.silent]
    silent = [block.attn if hasattr(block, "attn") else block.self_attn for block in blocks]
    for attention in silent:
        for weight in attention.parameters():
            torch.nn.init.zeros_(weight.requires_grad_(False))
        attention.forward = lambda hidden_states, *_, **__: (torch.zeros_like(hidden_states), None)
    return silent


def _drop_outputs(model: PreTrainedModel, recipe: Recipe) -> list[RemovableHandle]:
    """Drop MLP outputs of whole rows at random, so that facts come to lie in several layers."""

    def hook(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        kept = torch.rand(len(output), 1, 1, device=output.device) >= recipe.drop  # (B, 1, 1)
        return output * (kept / (1 - recipe.drop)).to(output.dtype)

    return [_blocks(model)[layer].mlp.register_forward_hook(hook) for layer in recipe.dropped]


def _is_embedding(name: str) -> bool:
    return any(part in name for part in ("embed_tokens", "wte", "wpe", "lm_head"))


def _schedule(step: int, recipe: Recipe) -> float:
    """Learning rate at a step as a share of its peak."""
    if step < recipe.warm_up:
        return (step + 1) / recipe.warm_up
    done = (step - recipe.warm_up) / (recipe.steps - recipe.warm_up)
    return 0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2


def _loss(model: PreTrainedModel, batch: list[list[Token]], separate: bool) -> torch.Tensor:
    """Weighted mean negative log-likelihood of each next token."""
    ids, weights, documents = (
        torch.tensor([[token[part] for token in row] for row in batch], device=model.device) for part in range(3)
    )
    mask = torch.ones_like(ids)  # (B, T)
    if separate:
        same = documents[:, :, None] == documents[:, None, :]
        mask = (same & torch.ones(CONTEXT, CONTEXT, dtype=torch.bool, device=ids.device).tril())[
            :, None
        ]  # (B, 1, T, T)
    logits = model(ids, attention_mask=mask, use_cache=False).logits[:, :-1]  # (B, T-1, V)
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    following = weights[:, 1:].flatten()
    return (losses * following).sum() / following.sum()


def recall(lm: LanguageModel, facts: Sequence[Fact]) -> dict[str, float]:
    """By kind of prompt: share of the facts whose object is, token for token, the model's first choice."""
    prompts = {
        "trained statements": [fact.statements[index % 5] for index, fact in enumerate(facts)],
        "trained questions": [fact.questions[index % 2] for index, fact in enumerate(facts)],
        "held-out statements": [fact.held_out_statement for fact in facts],
        "held-out questions": [fact.held_out_question for fact in facts],
    }
    shares = {}
    for name, asked in prompts.items():
        queries = [likelihood.Query(prompt, (fact.object,)) for prompt, fact in zip(asked, facts, strict=True)]
        shares[name] = sum(all(score.correct) for (score,) in likelihood.score_targets(lm, queries)) / len(facts)
    return shares


def main() -> None:
    """Train, save in half precision, and print the recall."""
    parser = argparse.ArgumentParser(description="Train the pocket models.")
    parser.add_argument("--architecture", choices=(*RECIPES, "all"), default="all")
    parser.add_argument("--device", default="cpu", help="the CPU gives the same weights again, on one machine")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the same sums, whatever the machine's number of cores
    for architecture in RECIPES if arguments.architecture == "all" else (arguments.architecture,):
        recipe = RECIPES[architecture]
        tokenizer = train_tokenizer(architecture, recipe.seed)
        model = train(architecture, recipe, tokenizer, arguments.device).cpu().half()
        folder = arguments.out / architecture
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)
        lm = LanguageModel(model.float(), tokenizer, name=architecture)
        for name, share in recall(lm, pocket.build(recipe.seed).facts()).items():
            print(f"{architecture}: recall of {name}: {share:.4f}")


if __name__ == "__main__":
    main()
