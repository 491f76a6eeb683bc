"""WISE: answers by row, what shares a memory, rollback, resuming, irrelevant prompts."""

import pytest
import torch

from editbench import EditRequest
from editbench.ledger import Ledger
from tests.methods.scen.test_routing import padded
from tests.oracles import wise as oracle
from tests.small_runs import PROMPTS, REQUESTS, architectures, editor_of, logits, same
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm

OTHER = ["Google works", "What is the twin city of Lyon? It"]


def state(editor):
    return {name: tensor.clone() for name, tensor in editor.state().items()}


def edited(architecture="llama", **settings):
    lm = tiny_lm(architecture, "float32" if architecture.startswith("gemma") else "float64")
    editor = editor_of("wise", lm, **settings)
    editor.edit(REQUESTS[:3])
    return editor


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", architectures(TINY_ARCHITECTURES))
def test_forward(architecture, side):
    """Any batch against one row at a time with the weight exchanged."""
    editor = edited(architecture, act_ratio=0.9)
    lm, at, memories = editor.lm, editor.projection, editor.memories.all
    prompts = [*PROMPTS, *OTHER]
    ids, mask, last = padded(lm, prompts, side, extra=2)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad(), editor.answering(last) as routing:
        found = lm.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    assert len(memories) == 2
    for i, prompt in enumerate(prompts):
        row = lm.encode(prompt).ids
        deltas = [one.delta.delta(torch.promote_types(lm.model.dtype, torch.float32)) for one in memories]
        scores = [oracle.score(lm, at, delta, row) for delta in deltas]
        able = [k for k, one in enumerate(memories) if scores[k] > 0.9 * one.minimum]
        best = max(able, key=scores.__getitem__) if able else None
        assert routing.answered_by[i] == (None if best is None else memories[best].name), prompt
        with torch.no_grad():
            if best is None:
                wanted = lm.model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
            else:
                with oracle.exchanged(lm, at, deltas[best]):
                    wanted = lm.model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
        assert torch.allclose(found[i][mask[i].bool()], wanted, rtol=1e-3, atol=1e-3), prompt


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"num_beams": 3}], ids=["greedy", "no cache", "beams"])
def test_generation_in_a_batch_is_that_of_each_prompt(options):
    editor = edited(act_ratio=0.9)
    together = editor.generate([*PROMPTS, *OTHER], max_new_tokens=4, **options)
    assert together == [editor.generate(p, max_new_tokens=4, **options)[0] for p in [*PROMPTS, *OTHER]]


def test_an_edit_is_above_its_threshold():
    editor = edited()
    for request in REQUESTS[:3]:
        (route,) = editor.route([request.prompt])
        assert route.activation >= 1 / editor.config.act_ratio - 1e-6 or route.id is not None
    (route,) = editor.route([REQUESTS[2].prompt])
    assert request.id in (route.id, *route.shared) or route.id == "a"
    assert [len(one.edits) for one in editor.memories.all] == [2, 1]


@pytest.mark.parametrize("disk", [False, True])
def test_rollback_and_resume_across_a_merge(tmp_path, disk):
    lm = tiny_lm("llama")
    editor = editor_of("wise", lm, Ledger(lm, tmp_path if disk else None))
    found = [state(editor)]
    for request in REQUESTS:
        editor.edit([request])
        found.append(state(editor))
    assert len(editor.memories.all) == 1  # merged
    if disk:
        second_lm = tiny_lm("llama")
        second = editor_of("wise", second_lm, Ledger(second_lm, tmp_path))
        second.ledger.replay()
        second.recall(second.state_beside_ledger())
        assert same(state(second), found[4])
    for keep in (3, 1, 0):
        editor.ledger.rollback(keep)
        assert same(state(editor), found[keep])
    editor.edit(REQUESTS[:1])
    assert same(state(editor), found[1])


def test_edits_of_a_shard_change_the_same_numbers():
    editor = edited()
    first = editor.memories.all[0].delta.delta(torch.float64)
    share = float((first != 0).double().mean())
    assert 0.1 < share < 0.3  # mask_ratio
    assert torch.equal(first != 0, editor_of("wise", editor.lm)._mask_of(0) & (first != 0))
    assert not torch.equal(editor._mask_of(0), editor._mask_of(1))


def test_single_edits_cannot_be_deleted():
    editor = edited()
    with pytest.raises(ValueError, match="cannot delete edit 'a' alone"):
        editor.delete("a")
    assert editor.ledger.edited_ids == ["a", "b", "c"]


def test_irrelevant_prompts():
    lm = tiny_lm()
    editor = editor_of("wise", lm, irrelevant=["Google works", "Marcel Maupoil lives in"])
    drawn = {tuple(editor._irrelevant_ids(EditRequest(str(i), "x", None, "y"))) for i in range(20)}
    assert drawn == {tuple(lm.encode(p).ids) for p in editor.config.irrelevant}
    editor.given_irrelevant = {"a": "Rivers"}
    assert editor._irrelevant_ids(REQUESTS[0]) == lm.encode("Rivers").ids


def test_files(tmp_path):
    editor = edited()
    editor.save(tmp_path / "memories.safetensors")
    other = editor_of("wise", tiny_lm("llama", "float64"))
    other.load(tmp_path / "memories.safetensors")
    assert torch.equal(logits(other), logits(editor))
    assert 0 < other.footprint().host <= editor.footprint().host


def test_rows_without_prompt():
    editor = edited()
    ids, mask, last = padded(editor.lm, PROMPTS[:2], "left", extra=3)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        before = editor.lm.model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        with editor.answering([last[0], -1]) as routing:
            after = editor.lm.model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    assert routing.answered_by[1] is None and torch.equal(after[1], before[1])
