"""Held routing: which columns a method sees, when it decides, and what a later pass knows."""

from dataclasses import dataclass

import pytest
import torch

from editbench.memory_based.projection import SECOND, Projection
from editbench.memory_based.routing import Answer, HeldRouting, Pass, Prompts
from editbench.model.packed_targets import Row, attention_mask, lay_out
from tests.methods.scen.test_routing import padded
from tests.tiny_models import tiny_lm

PROMPTS = ["The mother tongue of Danielle Darrieux is", "Google works", "T"]


@dataclass(frozen=True)
class Noted(Answer):
    """Changes nothing, and keeps what it is told."""

    passes: list[tuple[tuple[int, ...], Pass]]

    def apply(self, x, output, run):
        self.passes.append((tuple(x.shape[:2]), run))
        return output


class Chooser:
    def __init__(self, names=("a", None, "c")):
        self.seen: list[Prompts] = []
        self.passes: list = []
        self.names = names

    def __call__(self, prompts):
        self.seen.append(prompts)
        return Noted([self.names[i % len(self.names)] for i in range(len(prompts.seen))], self.passes)


def attached(lm, columns, chooser, **options):
    at = Projection.of(lm, 1, SECOND)
    routing = HeldRouting(columns, chooser, **options)
    routing.attach(lm, 1, at.module)
    return routing


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt", "gemma2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_method_sees_each_prompts_own_tokens(architecture, side):
    lm = tiny_lm(architecture)
    ids, mask, last = padded(lm, PROMPTS, side, extra=1)
    chooser = Chooser()
    routing = attached(lm, last, chooser)
    with torch.no_grad():
        lm.model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0))
    routing.detach()
    (prompts,) = chooser.seen
    assert prompts.columns.tolist() == last
    assert torch.equal(prompts.tokens, mask.bool())
    assert torch.equal(prompts.last, prompts.seen[range(3), last])
    assert routing.answered_by == ["a", None, "c"]


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2"])
def test_targets_in_the_same_row_are_no_tokens_of_the_prompt(architecture):
    lm = tiny_lm(architecture)
    rows = [Row(tuple(lm.encode(prompt).ids), ((5, 6, 7), (8, 9))) for prompt in PROMPTS]
    layout = lay_out(rows, side="left", pad_id=0, device=lm.device)
    chooser = Chooser()
    routing = attached(lm, layout.last_prompt_columns, chooser)
    with torch.no_grad():
        lm.decoder(
            input_ids=layout.input_ids,
            attention_mask=attention_mask(lm, layout),
            position_ids=layout.position_ids,
            use_cache=False,
        )
    routing.detach()
    assert torch.equal(chooser.seen[0].tokens, layout.segments == 0)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt"])
def test_a_later_pass_knows_where_it_begins(architecture, use_cache):
    lm = tiny_lm(architecture)
    chooser = Chooser(["a"])
    ids = torch.tensor([lm.encode("T").ids])
    routing = attached(lm, [0], chooser)
    with (
        torch.no_grad(),
        lm.generation_settings(
            max_new_tokens=3, min_new_tokens=3, num_return_sequences=2, do_sample=True, use_cache=use_cache
        ),
    ):
        lm.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids))
    routing.detach()
    starts = [0, 1, 2] if use_cache else [0, 0, 0]
    widths = [1, 1, 1] if use_cache else [1, 2, 3]
    assert chooser.passes == [((2, w), Pass((0,), s, 2)) for w, s in zip(widths, starts, strict=True)]
    assert len(chooser.seen) == 1


def test_with_a_cache_each_token_may_be_a_prompt_of_its_own():
    lm = tiny_lm("llama")
    chooser = Chooser(["a"])
    ids = torch.tensor([lm.encode(PROMPTS[0]).ids])
    routing = attached(lm, [ids.shape[1] - 1], chooser, per_token=True)
    with torch.no_grad(), lm.generation_settings(max_new_tokens=3, min_new_tokens=3):
        lm.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids))
    routing.detach()
    assert [prompts.seen.shape[1] for prompts in chooser.seen] == [ids.shape[1], 1, 1]
    assert [run.columns for _, run in chooser.passes] == [(ids.shape[1] - 1 + i,) for i in range(3)]


def test_nothing_that_fires_leaves_no_hook():
    lm = tiny_lm()
    ids = torch.tensor([lm.encode(PROMPTS[0]).ids])
    chooser = Chooser([None])
    routing = attached(lm, [ids.shape[1] - 1], chooser)
    with torch.no_grad():
        lm.model(input_ids=ids)
        lm.model(input_ids=ids)
    assert len(chooser.seen) == 1 and not chooser.passes and not lm.mlp_out(1)._forward_hooks
    routing = attached(lm, [-1], Chooser(["a"]))
    with torch.no_grad():
        lm.model(input_ids=ids)
    assert routing.answered_by == [None]
