"""GRACE: answers row by row, shared entries, deletion, rollback, resuming, files."""

import pytest
import torch

from editbench import EditRequest, make_editor
from editbench.ledger import Ledger
from tests.methods.scen.test_routing import padded
from tests.oracles import grace as oracle
from tests.small_runs import REQUESTS, architectures, logits, same
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm

LAYER = 1
PROMPTS = [REQUESTS[1].prompt, "Google works", REQUESTS[0].prompt, "What is the twin city of Lyon? It"]
NEWER = EditRequest("newer", REQUESTS[1].prompt, "Toko Yasuda", "piano")


def grace(lm=None, ledger=None, **options):
    given = {"layer": LAYER, "projection": "second", "steps": 8, "learning_rate": 0.5, "radius": 1e-3, **options}
    return make_editor("grace", lm or tiny_lm("llama", "float64"), ledger=ledger, **given)


def state(editor):
    return {name: tensor.clone() for name, tensor in editor.state().items()}


@pytest.mark.parametrize("replacement", ["last", "prompt", "all"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", architectures(TINY_ARCHITECTURES))
def test_forward(architecture, side, replacement):
    lm = tiny_lm(architecture, "float32" if architecture.startswith("gemma") else "float64")
    editor = grace(lm, replacement=replacement)
    editor.edit(REQUESTS[:3])
    ids, mask, last = padded(lm, PROMPTS, side, extra=2)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad(), editor.answering(last) as routing:
        found = lm.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    assert routing.answered_by == ["b", None, "a", None]
    module, book = oracle.projection(lm, LAYER, "second"), editor.codebook
    for i, prompt in enumerate(PROMPTS):
        row = lm.encode(prompt).ids
        place = oracle.lookup(book.keys, book.radii, oracle.query(lm, module, row))
        assert (place is None) == (routing.answered_by[i] is None)
        with torch.no_grad():
            if place is None:
                wanted = lm.model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
            else:
                with oracle.replaced(module, book.values[place], len(row) - 1, replacement):
                    wanted = lm.model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
        assert torch.allclose(found[i][mask[i].bool()], wanted, rtol=1e-4, atol=1e-4), prompt


GENERATION = {
    "greedy": {},
    "greedy without cache": {"use_cache": False},
    "beams": {"num_beams": 3},
    "returned sequences": {"num_beams": 4, "num_return_sequences": 2},
}


@pytest.mark.parametrize("options", GENERATION.values(), ids=GENERATION.keys())
@pytest.mark.parametrize("replacement", ["last", "prompt", "all"])
def test_generate(replacement, options):
    """A batch of prompts as each alone; a prompt of one token, whose later passes are as wide as the first, too."""
    editor = grace(replacement=replacement)
    editor.edit([*REQUESTS[:3], EditRequest("one", "T", None, "guitar")])
    prompts = [*PROMPTS, "T"]
    assert len(editor.lm.encode("T").ids) == 1
    together = editor.generate(prompts, max_new_tokens=4, **options)
    alone = [text for prompt in prompts for text in editor.generate(prompt, max_new_tokens=4, **options)]
    plain = [text for prompt in prompts for text in editor.lm.generate(prompt, max_new_tokens=4, **options)]
    copies = options.get("num_return_sequences", 1)
    assert together == alone and len(alone) == copies * len(prompts)
    assert together[copies : 2 * copies] == plain[copies : 2 * copies] and together != plain
    if "num_beams" not in options:
        assert editor.generate("T", max_new_tokens=4) == editor.generate("T", max_new_tokens=4, use_cache=False)


def test_edits_are_learnt_and_others_keep_their_bits():
    editor = grace(steps=60, learning_rate=0.1)
    ids, mask, last = padded(editor.lm, PROMPTS, "right")
    with torch.no_grad():
        before = editor.lm.model(input_ids=ids, attention_mask=mask).logits
        editor.edit(REQUESTS)
        with editor.answering(last):
            after = editor.lm.model(input_ids=ids, attention_mask=mask).logits
    same_rows = [bool(torch.equal(a, b)) for a, b in zip(before, after, strict=True)]
    assert same_rows == [False, True, False, True]
    first = [editor.lm.continuation(r.target)[0] for r in REQUESTS]
    assert logits(editor, [r.prompt for r in REQUESTS]).argmax(1).tolist() == first


def test_edits_together_are_as_one_after_the_other():
    """Shared entries included: the same answer for everybody, within reach."""
    requests = [EditRequest(r.id, r.prompt, r.subject, "Rome") for r in REQUESTS] + REQUESTS[:2]
    requests = [EditRequest(str(i), r.prompt, r.subject, r.target) for i, r in enumerate(requests)]
    for at_once in (1, 3, 8):
        whole, single = (grace(radius=1.5, edits_at_once=size) for size in (at_once, 1))
        result = whole.edit(requests)
        for request in requests:
            single.edit([request])
        events = {details["event"] for details in result.details["edits"].values()}
        assert {"add", "reuse", "replace"} <= events | {"expand", "reuse"}
        assert whole.codebook.numbers == single.codebook.numbers and whole.codebook.items == single.codebook.items
        assert whole.codebook.radii == pytest.approx(single.codebook.radii)
        assert torch.allclose(whole.codebook.values, single.codebook.values, rtol=1e-6, atol=1e-8)


def test_deleting_gives_the_unedited_answer_back():
    editor = grace()
    before = logits(editor)
    editor.edit(REQUESTS)
    edited = logits(editor)
    editor.delete("b")
    assert editor.ledger.edited_ids == ["a", "c", "d"]
    now = logits(editor)
    assert torch.equal(now[1], before[1]) and torch.equal(now[[0, 2, 3]], edited[[0, 2, 3]])
    assert editor.footprint().host == 3 * (editor.projection.d_in + editor.projection.d_out) * 8
    with pytest.raises(ValueError, match="there is no edit 'b'"):
        editor.delete("b")


def test_a_newer_edit_of_the_same_prompt_replaces_the_older():
    editor = grace(steps=60, learning_rate=0.1)
    editor.edit(REQUESTS)
    assert editor.edit([NEWER]).details["edits"]["newer"]["event"] == "replace"
    assert len(editor.codebook) == 4
    first = editor.lm.continuation(NEWER.target)[0]
    assert int(logits(editor, [NEWER.prompt]).argmax()) == first
    assert editor.route([NEWER.prompt])[0].id == "newer"
    editor.delete("b")
    assert editor.route([NEWER.prompt])[0].id == "newer"
    editor.delete("newer")
    assert editor.route([NEWER.prompt])[0].id is None


@pytest.mark.parametrize("disk", [False, True])
def test_rolling_back_brings_replaced_and_deleted_edits_back(tmp_path, disk):
    lm = tiny_lm("llama")
    editor = grace(lm, Ledger(lm, tmp_path / "ledger") if disk else None)
    editor.edit(REQUESTS[:2])
    first = state(editor)
    editor.edit(REQUESTS[2:])
    editor.delete("c")
    second = state(editor)
    editor.edit([NEWER])
    editor.delete("a")
    editor.ledger.rollback(2)
    assert same(state(editor), second) and editor.ledger.edited_ids == ["a", "b", "d"]
    editor.ledger.rollback(1)
    assert same(state(editor), first)
    editor.ledger.rollback()
    assert state(editor) == {}


def test_a_file_holds_the_codebook(tmp_path):
    editor = grace()
    editor.edit(REQUESTS)
    editor.save(tmp_path / "codebook.safetensors")
    other = grace()
    other.load(tmp_path / "codebook.safetensors")
    assert torch.equal(logits(other), logits(editor))
    with pytest.raises(ValueError, match="holds the memory of"):
        grace(layer=0).load(tmp_path / "codebook.safetensors")


def test_one_entry_for_several_edits_is_right_for_each():
    editor = grace(radius=100.0)
    requests = [EditRequest(r.id, r.prompt, r.subject, "Rome") for r in REQUESTS[:2]]
    editor.edit(requests)
    (route,) = editor.route([requests[1].prompt])
    assert (route.id, route.shared) == ("a", ("b",)) and route.activation > 0
    editor.delete("a")
    assert editor.route([requests[1].prompt])[0].id == "b"
