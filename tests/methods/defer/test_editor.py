"""Defer: answers by row, what the gate learns, rollback, resuming, files."""

import pytest
import torch

from editbench.ledger import Ledger
from tests.methods.scen.test_routing import padded
from tests.oracles import defer as oracle
from tests.oracles import grace as keys_of
from tests.oracles.melo import added
from tests.small_runs import PROMPTS, REQUESTS, architectures, editor_of, logits, same
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm

OTHERS = ["Google works", "Anaal Nathrakh was created in", "What is the twin city of Lyon? It"]


def defer(lm=None, ledger=None, **settings):
    given = {"irrelevant": OTHERS, "irrelevant_prompts": 8, "steps": 30, "gate_learning_rate": 0.5, **settings}
    return editor_of("defer", lm or tiny_lm("llama", "float64"), ledger, **given)


def state(editor):
    return {name: tensor.clone() for name, tensor in editor.state().items()}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", architectures([a for a in TINY_ARCHITECTURES if not a.startswith("opt")]))
def test_forward(architecture, side):
    """Any batch against one row at a time, with the side network where the plain gate opens."""
    lm = tiny_lm(architecture, "float32" if architecture.startswith("gemma") else "float64")
    editor = defer(lm)
    editor.edit(REQUESTS[:2])
    prompts = [*PROMPTS[:2], *OTHERS]
    ids, mask, last = padded(lm, prompts, side, extra=2)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad(), editor.answering(last) as routing:
        found = lm.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    assert routing.answered_by == ["side network"] * 2 + [None] * 3
    module, (a, b, gate) = editor.projection.module, editor.networks.tensors.values()
    for i, prompt in enumerate(prompts):
        row = lm.encode(prompt).ids
        opens = float(oracle.gate_of(gate, keys_of.query(lm, module, row).to(gate))) > 0.5
        with torch.no_grad(), added([module], [(a, b)] if opens else [(a, 0 * b)], 1.0):
            wanted = lm.model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
        assert torch.allclose(found[i][mask[i].bool()], wanted, rtol=1e-3, atol=1e-3), prompt


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"num_beams": 3}], ids=["greedy", "no cache", "beams"])
def test_generation_in_a_batch_is_that_of_each_prompt(options):
    editor = defer()
    editor.edit(REQUESTS)
    prompts = [*PROMPTS[:4], *OTHERS]
    together = editor.generate(prompts, max_new_tokens=4, **options)
    assert together == [editor.generate(p, max_new_tokens=4, **options)[0] for p in prompts]
    plain = [editor.lm.generate(p, max_new_tokens=4, **options)[0] for p in prompts]
    assert together[4:] == plain[4:] and together[:4] != plain[:4]


def test_edits_are_learnt_and_what_the_gate_leaves_keeps_its_bits():
    editor = defer(steps=60)
    before = logits(editor, [*PROMPTS[:4], *OTHERS])
    result = editor.edit(REQUESTS)
    after = logits(editor, [*PROMPTS[:4], *OTHERS])
    assert after[:4].argmax(1).tolist() == [editor.lm.continuation(r.target)[0] for r in REQUESTS]
    assert torch.equal(after[4:], before[4:])
    assert result.details["gate_irrelevant"] < 0.5 < min(of["gate"] for of in result.details["edits"].values())
    assert all(losses[0] > losses[-1] for losses in result.losses.values())


def test_one_network_serves_all_edits():
    editor = defer()
    editor.edit(REQUESTS)
    routes = editor.route([PROMPTS[0], OTHERS[0]])
    assert (routes[0].id, routes[0].shared, routes[1].id) == ("a", ("b", "c", "d"), None)
    assert routes[0].activation > 0.5 > routes[1].activation
    bytes_of = editor.footprint()
    with pytest.raises(ValueError, match="cannot delete edit 'a' alone"):
        editor.delete("a")
    editor.edit(REQUESTS[:1])
    assert editor.footprint() == bytes_of  # whatever the number of edits
    at, width = editor.projection, editor.config.width
    assert bytes_of.host == 8 * (width * (at.d_in + at.d_out) + at.d_in + 1)


@pytest.mark.parametrize("disk", [False, True])
def test_rollback_and_resume(tmp_path, disk):
    lm = tiny_lm("llama")
    editor = defer(lm, Ledger(lm, tmp_path if disk else None), steps=3)
    editor.edit(REQUESTS[:2])
    first = state(editor)
    editor.edit(REQUESTS[2:])
    if disk:
        again_lm = tiny_lm("llama")
        again = defer(again_lm, Ledger(again_lm, tmp_path))
        again.ledger.replay()
        again.recall(again.state_beside_ledger())
        assert same(state(again), state(editor))
    editor.ledger.rollback(1)
    assert same(state(editor), first) and not editor.empty
    editor.ledger.rollback()
    assert state(editor) == {} and editor.empty


def test_files(tmp_path):
    editor = defer(steps=3)
    editor.edit(REQUESTS)
    editor.save(tmp_path / "networks.safetensors")
    other = defer()
    other.load(tmp_path / "networks.safetensors")
    assert same(other.state(), editor.state())
    with pytest.raises(ValueError, match="not the state of a gate and a side network"):
        other.restore({"facts": torch.zeros(3, dtype=torch.uint8)})


def test_a_state_that_is_not_known_is_not_taken_for_none():
    editor = defer(steps=3)
    editor.edit(REQUESTS[:1])
    editor.edit(REQUESTS[1:])
    editor.restore(state(editor))
    editor.ledger.rollback(1)
    with pytest.raises(ValueError, match="whose state is not known"):
        editor.state()
