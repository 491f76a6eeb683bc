"""MELO: answers by row, groups, deletion, rollback, files."""

import pytest
import torch

from editbench import EditRequest, make_editor
from editbench.ledger import Ledger
from tests.methods.scen.test_routing import padded
from tests.oracles import grace as keys_of
from tests.oracles import melo as oracle
from tests.small_runs import PROMPTS, REQUESTS, architectures, editor_of, logits, same
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm

OTHER = ["Google works", "What is the twin city of Lyon? It"]
NEWER = EditRequest("newer", REQUESTS[1].prompt, "Toko Yasuda", "piano")


def state(editor):
    return {name: tensor.clone() for name, tensor in editor.state().items()}


def melo(lm=None, ledger=None, **settings):
    given = {"layers": [1, 2], "edits_per_block": 2, "radius": 1e-3, **settings}
    return editor_of("melo", lm or tiny_lm("llama", "float64"), ledger, **given)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", architectures([a for a in TINY_ARCHITECTURES if not a.startswith("opt")]))
def test_forward(architecture, side):
    """Any batch against one row at a time, with the block of its nearest key."""
    lm = tiny_lm(architecture, "float32" if architecture.startswith("gemma") else "float64")
    editor = melo(lm)
    editor.edit(REQUESTS[:3])
    prompts = [*PROMPTS[:3], *OTHER]
    ids, mask, last = padded(lm, prompts, side, extra=2)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad(), editor.answering(last) as routing:
        found = lm.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    assert routing.answered_by == ["block 0", "block 0", "block 1", None, None]
    modules = [at.module for at in editor.lora_at]
    for i, prompt in enumerate(prompts):
        row = lm.encode(prompt).ids
        at = editor.projection
        with torch.no_grad():
            key = at.outputs(keys_of.query(lm, at.module, row)[None])[0]
            name = routing.answered_by[i]
            if name is None:
                assert all(float((p.key - key).norm()) > 1e-2 for c in editor.index.clusters for p in c.points)
                wanted = lm.model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
            else:
                with oracle.added(modules, editor.blocks[int(name.split()[1])], 4.0):
                    wanted = lm.model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
        assert torch.allclose(found[i][mask[i].bool()], wanted, rtol=1e-3, atol=1e-3), prompt


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"num_beams": 3}], ids=["greedy", "no cache", "beams"])
def test_generation_in_a_batch_is_that_of_each_prompt(options):
    editor = melo()
    editor.edit(REQUESTS)
    together = editor.generate([*PROMPTS, *OTHER], max_new_tokens=4, **options)
    assert together == [editor.generate(p, max_new_tokens=4, **options)[0] for p in [*PROMPTS, *OTHER]]
    plain = [editor.lm.generate(p, max_new_tokens=4, **options)[0] for p in [*PROMPTS, *OTHER]]
    assert together[4:] == plain[4:] and together[:4] != plain[:4]


def test_edits_are_learnt_and_others_keep_their_bits():
    editor = melo(steps=60)
    before = logits(editor)
    editor.edit(REQUESTS)
    after = logits(editor)
    first = [editor.lm.continuation(r.target)[0] for r in REQUESTS]
    assert after[:4].argmax(1).tolist() == first
    assert torch.equal(after[4], before[4])


def test_an_edit_goes_by_its_key_and_its_block_serves_its_group():
    editor = melo()
    result = editor.edit(REQUESTS)
    assert [result.details["edits"][r.id]["block"] for r in REQUESTS] == [0, 0, 1, 1]
    routes = editor.route(PROMPTS)
    assert [one.id for one in routes] == ["a", "b", "c", "d", None]
    assert set(routes[0].shared) == {"a", "b"} and routes[0].activation > 0 > routes[4].activation
    at, rank = editor.lora_at[0], editor.config.rank
    block = rank * (at.d_in + at.d_out) * 8  # on one layer
    assert editor.footprint().host == 2 * block + 4 * 2 * editor.projection.d_out * 8  # a key and a centre each


def test_deleting_and_replacing():
    editor = melo()
    before = logits(editor)
    editor.edit(REQUESTS)
    edited = logits(editor)
    editor.delete("a")
    now = logits(editor)
    assert torch.equal(now[0], before[0]) and torch.equal(now[1:], edited[1:]) and set(editor.blocks) == {0, 1}
    editor.delete("b")
    assert set(editor.blocks) == {1}
    editor.edit(REQUESTS[1:2])
    editor.edit([NEWER])
    assert editor.route([NEWER.prompt])[0].id == "newer" and set(editor.blocks) == {1, 3}


@pytest.mark.parametrize("disk", [False, True])
def test_rollback_and_resume(tmp_path, disk):
    lm = tiny_lm("llama")
    editor = melo(lm, Ledger(lm, tmp_path if disk else None))
    editor.edit(REQUESTS[:2])
    first = state(editor)
    editor.edit(REQUESTS[2:])
    editor.delete("c")
    second = state(editor)
    editor.edit([NEWER])
    if disk:
        again_lm = tiny_lm("llama")
        again = melo(again_lm, Ledger(again_lm, tmp_path))
        again.ledger.replay()
        again.recall(again.state_beside_ledger())
        assert same(state(again), state(editor))
    editor.ledger.rollback(2)
    assert same(state(editor), second)
    editor.ledger.rollback(1)
    assert same(state(editor), first)
    editor.ledger.rollback()
    assert state(editor) == {} and editor.empty


def test_files(tmp_path):
    editor = melo()
    editor.edit(REQUESTS)
    editor.save(tmp_path / "blocks.safetensors")
    other = melo()
    other.load(tmp_path / "blocks.safetensors")
    assert torch.equal(logits(other), logits(editor)) and same(other.state(), editor.state())
    with pytest.raises(ValueError, match="not the state of LoRA blocks"):
        other.restore({"facts": torch.zeros(3, dtype=torch.uint8)})


def test_index_and_block_at_one_layer():
    editor = melo(layers=[2])
    before = logits(editor)
    editor.edit(REQUESTS)
    after = logits(editor)
    assert torch.equal(after[4], before[4]) and not torch.equal(after[:4], before[:4])


def test_without_edits_left_there_is_a_state_and_it_is_taken():
    editor, other = melo(), melo()
    editor.edit(REQUESTS[:2])
    for id in "ab":
        editor.delete(id)
    other.restore(editor.state())
    for one in (editor, other):
        one.edit(REQUESTS[2:])
    assert same(state(editor), state(other))


def test_a_state_of_other_layers_or_of_another_model_is_refused():
    editor = melo(layers=[0, 1, 2])
    editor.edit(REQUESTS[:2])
    given = editor.state()
    with pytest.raises(ValueError, match="block 0 is of other layers"):
        melo(layers=[0, 2]).restore(given)
    with pytest.raises(ValueError, match="its centres have 31 numbers, those of this model 32"):
        editor.restore({**given, "centres": given["centres"][:, :-1].contiguous()})


def test_an_edit_that_its_own_group_replaces_is_not_trained():
    """The newer answer alone: as if the older one had not been in the group."""
    newer = EditRequest("newer", REQUESTS[0].prompt, REQUESTS[0].subject, "Spanish")
    both, alone = melo(edits_per_block=3), melo(edits_per_block=3)
    both.edit([REQUESTS[0], REQUESTS[1], newer])
    alone.edit([REQUESTS[1], newer])
    assert all(
        torch.equal(x, y)
        for a, b in zip(both.blocks[0], alone.blocks[0], strict=True)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize(("rules", "events"), [("published", ["join", "join"]), ("sound", ["join", "add"])])
def test_published_edits_are_compared_with_the_centres_before_their_batch(rules, events):
    """Two edits on either side of a cluster: the first one moves its centre."""
    editor = melo(rules=rules, radius=1.0)

    def indexed(edits, block):
        keys = torch.tensor([[100.0, at] for at, _ in edits])
        group = [EditRequest(f"{block} {i}", f"prompt {block} {i}", None, "y") for i in range(len(edits))]
        return editor._index(group, keys, [label for _, label in edits], block)

    with editor.index.trial():
        indexed([(0.0, (5, 6))], 0)
        assert [change.event for change in indexed([(1.9, (5, 6)), (-1.9, (5, 6))], 1)] == events
    assert not editor.index.clusters


def test_published_rows_that_are_too_long_with_their_end_text_are_refused():
    lm = tiny_lm("llama")
    prompt = "The"
    while lm.too_long(f"{prompt} of", "Rome") is None:
        prompt += " of"
    request = EditRequest("long", prompt, None, "Rome")
    settings = {"layers": [1, 2], "projection": "second"}
    assert make_editor("melo", lm, **settings).refusal(request) is None
    assert "the longest row of MELO" in make_editor("melo", lm, rules="published", **settings).refusal(request)
