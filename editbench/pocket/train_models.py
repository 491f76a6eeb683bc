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
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from rich.progress import Progress
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
from editbench.pocket import world
from editbench.pocket.muon import Muon
from editbench.pocket.recipes import RECIPES, Recipe, Stage
from editbench.pocket.training_text import Token, rows, train_tokenizer

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from editbench.pocket.world import Fact


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
            max_position_embeddings=recipe.positions,
            **common,
        )
    return GPT2Config(
        n_embd=recipe.width,
        n_inner=recipe.inner,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        n_positions=recipe.positions,
        activation_function="relu2",
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        **common,
    )


def train(
    architecture: str, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, device: str = "cpu"
) -> PreTrainedModel:
    """A model trained from scratch on the world of the recipe's seed, in float32."""
    torch.manual_seed(recipe.seed)
    model = AutoModelForCausalLM.from_config(model_config(architecture, recipe, tokenizer)).to(device)
    model.train()
    silent = _silence(model, recipe)
    hooks = _drop_outputs(model, recipe)
    source = rows(tokenizer, recipe, Random(recipe.seed))
    with Progress() as progress:
        task = progress.add_task(architecture, total=sum(stage.steps for stage in recipe.stages))
        for stage in recipe.stages:
            for loss in _steps(model, recipe, stage, source):
                progress.update(task, advance=1, description=f"{architecture}, loss {loss:.3f}")
    for hook in hooks:
        hook.remove()
    for attention in silent:
        del attention.forward
    return model.eval()


def _steps(model: PreTrainedModel, recipe: Recipe, stage: Stage, source: Iterator[list[Token]]) -> Iterator[float]:
    """Train a stage; the loss of every step."""
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    matrices = [weight for name, weight in trained if weight.ndim == 2 and not _is_embedding(name)]
    others = [weight for name, weight in trained if weight.ndim != 2 or _is_embedding(name)]
    settings: dict[str, Any] = {"lr": stage.learning_rate, "weight_decay": recipe.weight_decay}
    optimizers = [Muon(matrices, **settings), torch.optim.AdamW(others, **settings)]
    share = partial(_schedule, stage=stage)
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, share) for optimizer in optimizers]
    for _ in range(stage.steps):
        loss = _loss(model, [next(source) for _ in range(recipe.rows)], recipe, stage.hidden)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        model.zero_grad()
        yield loss.item()


def _blocks(model: PreTrainedModel) -> list[Any]:
    base: Any = model.base_model
    return list(base.h if hasattr(base, "h") else base.layers)


def _silence(model: PreTrainedModel, recipe: Recipe) -> list[Any]:
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


def _schedule(step: int, stage: Stage) -> float:
    """Learning rate at a step as a share of its peak."""
    if step < stage.warm_up:
        return (step + 1) / stage.warm_up
    done = (step - stage.warm_up) / (stage.steps - stage.warm_up)
    return 0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2


def _loss(model: PreTrainedModel, batch: list[list[Token]], recipe: Recipe, hidden: float) -> torch.Tensor:
    """Weighted mean negative log-likelihood of each next token."""
    ids, weights, documents, names = (
        torch.tensor([[token[part] for token in row] for row in batch], device=model.device) for part in range(4)
    )
    how = {
        "attention_mask": _visible(documents, names, hidden) if recipe.separate else torch.ones_like(ids),
        "position_ids": _positions(documents, recipe.scattered) if recipe.scattered else None,
    }
    logits = model(ids, use_cache=False, **how).logits[:, :-1]  # (B, T-1, V)
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    following = weights[:, 1:].flatten()
    return (losses * following).sum() / following.sum()


def _visible(documents: torch.Tensor, names: torch.Tensor, hidden: float) -> torch.Tensor:
    """Which tokens (last axis) a token sees: (B, 1, T, T).

    Those of its document up to itself; in a share ``hidden`` of the documents not a name's tokens but the last, unless
    it belongs to that name. Then the last is all that a prompt's end can learn of a subject, and facts are looked up
    there; else it gathers the name's tokens by itself, and an edit at the name is not asked for.
    """
    documents = documents - documents.amin(1, keepdim=True)
    seen = documents[:, :, None] == documents[:, None, :]
    draws = torch.rand(len(documents), int(documents.max()) + 1, device=documents.device).gather(1, documents)
    own = names.abs()[:, :, None] == names.abs()[:, None, :]
    seen &= ~((draws < hidden)[:, :, None] & (names < 0)[:, None, :] & ~own)
    return seen.tril()[:, None]


def _positions(documents: torch.Tensor, most: int) -> torch.Tensor:
    """Positions that count on from a random one, at most ``most``, where a document begins: (B, T)."""
    index = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = documents.diff(dim=1, prepend=documents[:, :1] - 1) != 0
    first = torch.where(begins, index, 0).cummax(1).values
    return index - first + torch.randint(most + 1, documents.shape, device=documents.device).gather(1, first)


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
        for name, share in recall(lm, world.build(recipe.seed).facts()).items():
            print(f"{architecture}: recall of {name}: {share:.4f}")


if __name__ == "__main__":
    main()
