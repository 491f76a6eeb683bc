"""Conformance of every registered method, on tiny models of four kinds. A new method needs a line in ``SETTINGS``."""

from contextlib import nullcontext

import pytest
import torch

from editbench import EditRequest, LanguageModel, Ledger, Resources, make_editor, plugins
from editbench.editor import EditResult
from editbench.records import NOT_FINITE, EditError
from editbench.registry import load_method
from tests.small_runs import (
    PROMPTS,
    REQUESTS,
    SETTINGS,
    TEMPLATES,
    WRITERS,
    architectures,
    each,
    editor_of,
    logits,
    same,
    save_model,
    weights,
)
from tests.tiny_models import POSITIONS, tiny_lm

APART = {"external_weights"}
"""Methods that make no edits of their own; they have tests of their own."""
METHODS = [
    name
    for name in plugins.entry_points(plugins.METHODS)
    if name not in APART and load_method(name).__module__.startswith("editbench.")
]
SHARED = {"wise", "defer"}
"""Methods beside the weights whose edits share numbers, so that none can be deleted alone."""
FORGETTING = [m for m in METHODS if load_method(m).kind == "memory" and m not in SHARED]
BESIDE = [m for m in METHODS if load_method(m).kind in ("memory", "prompt")]
ASKING = [m for m in METHODS if load_method(m).kind == "prompt"]
WITHOUT_THE_MODEL = {"in_context"}
"""Methods that run no model for an edit, and so meet no NaN."""
ARCHITECTURES = architectures(("gpt2", "llama", "gemma2", "opt-post"), fast=("gpt2",))


def test_every_method_is_here():
    assert set(METHODS) == set(SETTINGS), "give the new method a line in tests/small_runs.py: SETTINGS"
    for method in METHODS:
        editor = load_method(method)
        assert editor.title and editor.kind in ("weights", "memory", "prompt", "none")
        assert editor.paper or method == "unedited"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", each(METHODS))
def test_rollback_is_bitwise(method, architecture):
    lm = tiny_lm(architecture)
    editor = editor_of(method, lm)
    before, unedited = weights(lm), logits(editor)
    editor.prepare(REQUESTS)
    result = editor.edit(REQUESTS[:2])
    assert result.applied == ["a", "b"]
    middle, half_edited = weights(lm), logits(editor)
    editor.edit(REQUESTS[2:])
    assert editor.ledger.edited_ids == ["a", "b", "c", "d"]
    assert same(middle, before) == (editor.kind != "weights")
    editor.ledger.rollback(keep=1)
    assert same(weights(lm), middle)
    assert torch.equal(logits(editor), half_edited)
    editor.ledger.rollback()
    assert same(weights(lm), before)
    assert torch.equal(logits(editor), unedited)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", each(WRITERS))
def test_an_edit_changes_the_answer_to_its_prompt(method, architecture):
    """The new target becomes likelier: not how well, but that it does something at all.

    A random model reads nothing from what stands before a prompt: there the answer is another one.
    """
    editor = editor_of(method, tiny_lm(architecture))
    ids = [editor.lm.continuation(r.target)[0] for r in REQUESTS[:2]]
    before = logits(editor).log_softmax(-1)
    editor.edit(REQUESTS[:2])
    after = logits(editor).log_softmax(-1)
    gains = [float(after[i, t] - before[i, t]) for i, t in enumerate(ids)]
    assert sum(gains) > 0 or (editor.kind == "prompt" and all(gains)), gains


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", each(METHODS))
def test_save_replay_and_restore_go_on_bitwise(method, architecture, tmp_path):
    """A fresh process with the ledger and the saved state ends where the first one does."""
    first = editor_of(method, tiny_lm(architecture), None)
    first.ledger = Ledger(first.lm, tmp_path)
    first.prepare(REQUESTS)
    first.edit(REQUESTS[:2])
    state = {k: v.clone() for k, v in first.state_beside_ledger().items()}
    second_lm = tiny_lm(architecture)
    second = editor_of(method, second_lm, Ledger(second_lm, tmp_path))
    second.prepare(REQUESTS)
    second.ledger.replay()
    second.recall(state)
    assert second.footprint() == first.footprint()
    assert same(weights(second_lm), weights(first.lm))
    assert torch.equal(logits(second), logits(first))
    second.ledger._files = first.ledger._files = None
    for editor in (first, second):
        editor.edit(REQUESTS[2:])
    assert same(weights(second_lm), weights(first.lm))
    assert torch.equal(logits(second), logits(first))


@pytest.mark.parametrize("method", each(BESIDE))
def test_a_state_answers_alike_in_another_editor_and_takes_further_edits(method):
    """Another editor's ledger does not know the edits of the state."""
    first, second = (editor_of(method, tiny_lm("gpt2")) for _ in range(2))
    first.edit(REQUESTS[:2])
    second.restore(first.state())
    assert torch.equal(logits(second), logits(first))
    if method != "in_context":  # asks for all edits
        answered = [[route.id is not None for route in editor.route(PROMPTS)] for editor in (first, second)]
        assert answered[0] == answered[1] and any(answered[0])
    for editor in (first, second):
        editor.edit(REQUESTS[2:])
    assert torch.equal(logits(second), logits(first))
    assert method == "in_context" or len(second.route(PROMPTS)) == len(PROMPTS)


@pytest.mark.parametrize("method", each(FORGETTING + ASKING))
def test_an_edit_that_was_replaced_can_be_deleted(method):
    """Its answer is gone already, and that of the newer one stays."""
    editor = editor_of(method, tiny_lm("gpt2"))
    editor.edit(REQUESTS[:2])
    editor.edit([EditRequest("newer", REQUESTS[0].prompt, REQUESTS[0].subject, "Spanish")])
    after = logits(editor)
    editor.delete("a")
    assert editor.ledger.edited_ids == ["b", "newer"]
    assert torch.equal(logits(editor), after)


@pytest.mark.parametrize("answer", ["Spain", "English"])
@pytest.mark.parametrize("method", each(FORGETTING + ASKING))
def test_an_id_that_is_edited_again_leaves_its_older_prompt(method, answer):
    """In a batch as in turn, also where the next edit of the batch asks just that."""
    moved = EditRequest("a", REQUESTS[1].prompt, REQUESTS[1].subject, "violin")
    other = EditRequest("b", REQUESTS[0].prompt, REQUESTS[0].subject, answer)
    found = []
    for batches in ([[moved, other]], [[moved], [other]]):
        editor = editor_of(method, tiny_lm("gpt2", "float64"))
        editor.edit(REQUESTS[:1])
        for batch in batches:
            editor.edit(batch)
        found.append(logits(editor))
        if method != "in_context":  # asks for all edits
            assert [route.id for route in editor.route([moved.prompt, other.prompt])] == ["a", "b"]
    assert torch.allclose(*found, rtol=1e-6, atol=1e-6) or method == "melo"  # whose edits share blocks


@pytest.mark.parametrize("method", each(METHODS))
def test_the_same_edits_give_the_same_bits(method):
    found = []
    for _ in range(2):
        editor = editor_of(method, tiny_lm("llama"))
        editor.prepare(REQUESTS)
        editor.edit(REQUESTS)
        found.append(logits(editor))
    assert torch.equal(*found)


@pytest.mark.parametrize("method", each(METHODS))
def test_a_batch_is_cut_into_parts_that_the_method_takes(method):
    whole, parts = (editor_of(method, tiny_lm("gpt2")) for _ in range(2))
    for editor in (whole, parts):
        editor.prepare(REQUESTS)
    size = whole.capabilities.max_batch or len(REQUESTS)
    whole.edit(REQUESTS)
    for start in range(0, len(REQUESTS), size):
        parts.edit(REQUESTS[start : start + size])
    assert len(whole.ledger) == 1 and whole.ledger.edited_ids == parts.ledger.edited_ids
    assert torch.equal(logits(whole), logits(parts))


@pytest.mark.parametrize("method", each(METHODS))
def test_more_requests_than_the_method_takes_at_once_are_refused_by_it(method):
    """The declared limit is that of the code: :meth:`Editor.edit` keeps to it."""
    editor = editor_of(method, tiny_lm("gpt2"))
    editor.prepare(REQUESTS)
    most = editor.capabilities.max_batch or len(REQUESTS)
    with editor.ledger.transaction([]) as transaction:
        editor.write(REQUESTS[:most], transaction, EditResult())
    if most < len(REQUESTS):
        with pytest.raises(ValueError), editor.ledger.transaction([]) as transaction:
            editor.write(REQUESTS[: most + 1], transaction, EditResult())


@pytest.mark.parametrize("method", each(METHODS))
def test_a_method_needs_what_it_declares_and_nothing_else(method):
    """Without texts, covariance and training records: the error of the first that is missing, or none at all."""
    settings = {name: value for name, value in SETTINGS[method].items() if name != "network"}  # as by default
    missing = {"covariance": "a covariance needs plain text", "training": "learns from training|editbench train"}
    needed = [words for need, words in missing.items() if need in load_method(method).capabilities.needs]
    with pytest.raises(ValueError, match=needed[0]) if needed else nullcontext():
        editor = make_editor(method, tiny_lm("gpt2"), resources=Resources(templates=TEMPLATES), **settings)
        editor.prepare(REQUESTS)
        assert editor.edit(REQUESTS[:1]).applied == ["a"]


@pytest.mark.parametrize("method", each(METHODS))
def test_the_tokenizers_padding_side_makes_no_difference(method):
    found = []
    for side in ("left", "right"):
        editor = editor_of(method, tiny_lm("llama"))
        editor.lm.tokenizer.padding_side = side
        editor.edit(REQUESTS)
        found.append(logits(editor))
        found.append(editor.generate(PROMPTS, max_new_tokens=4))
    assert torch.equal(found[0], found[2]) and found[1] == found[3]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", each(METHODS))
def test_answers_in_a_padded_batch_are_those_of_each_prompt(method, architecture, side):
    editor = editor_of(method, tiny_lm(architecture))
    editor.edit(REQUESTS)
    rows = [editor.lm.encode(editor.asked(prompt)).ids for prompt in PROMPTS]
    width = max(map(len, rows))
    ids, mask = (torch.full((len(rows), width), fill) for fill in (editor.lm.pad_id, 0))
    last = []
    for i, row in enumerate(rows):
        start = width - len(row) if side == "left" else 0
        ids[i, start : start + len(row)], mask[i, start : start + len(row)] = torch.tensor(row), 1
        last.append(start + len(row) - 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad(), editor.answering(last):
        found = editor.lm.model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    assert torch.allclose(found[range(len(rows)), last], logits(editor), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", each(FORGETTING))
def test_a_deleted_edit_is_forgotten_and_no_other(method):
    editor = editor_of(method, tiny_lm("gpt2"))
    unedited = logits(editor)
    editor.edit(REQUESTS)
    edited = logits(editor)
    editor.delete("b")
    assert editor.ledger.edited_ids == ["a", "c", "d"]
    assert torch.equal(logits(editor)[1], unedited[1]) or editor.route(PROMPTS[1:2])[0].id not in (None, "b")
    assert torch.equal(logits(editor)[[0, 2, 3]], edited[[0, 2, 3]])
    for id in "acd":
        editor.delete(id)
    assert torch.equal(logits(editor), unedited)
    with pytest.raises(ValueError, match="no edit 'b'"):
        editor.delete("b")


@pytest.mark.parametrize("method", each(METHODS))
def test_saved_weights_are_the_edited_ones(method, tmp_path):
    editor = editor_of(method, tiny_lm("llama"))
    editor.edit(REQUESTS[:2])
    loaded = LanguageModel.load(save_model(editor.lm, tmp_path), device="cpu")
    assert same(weights(loaded), weights(editor.lm))


@pytest.mark.parametrize("method", each(METHODS))
def test_a_request_without_subject_is_edited_or_refused_with_a_reason(method):
    editor = editor_of(method, tiny_lm("gpt2"))
    before = weights(editor.lm)
    result = editor.edit([EditRequest("q", "What is the twin city of Lyon?", None, "Rome")])
    if editor.capabilities.needs_subject:
        assert result.applied == []
        assert result.skipped["q"].startswith("unsupported: ")
        assert same(weights(editor.lm), before)
    else:
        assert result.applied == ["q"]


def request_of(lm, tokens, target="Rome", **answers):
    """A request whose prompt has so many tokens."""
    subject, prompt = "Lyon", "The twin city of Lyon is"
    prompt += " is" * (tokens - len(lm.encode(prompt).ids))
    assert len(lm.encode(prompt).ids) == tokens
    return EditRequest("long", prompt, subject, target, **answers)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", each(METHODS))
def test_what_the_model_cannot_take_is_unsupported_by_every_method(method, architecture):
    """GPT-2 has no more positions: the longest that is supported is edited without an error."""
    lm = tiny_lm(architecture)
    editor = editor_of(method, lm)
    answer = len(lm.continuation("Rome"))
    result = editor.edit([REQUESTS[0], request_of(lm, POSITIONS + 1 - answer)])
    assert result.applied == ["a"]
    taken = f"prompt and answer take {POSITIONS + 1} tokens, {lm.name} has {POSITIONS}"
    assert result.skipped == {"long": f"unsupported: {taken}"}
    true = request_of(lm, POSITIONS - answer, target_true="English and Russian, they say")
    assert editor.edit([true]).skipped["long"].startswith("unsupported: prompt and answer take")
    longest = request_of(lm, POSITIONS - answer)
    if not hasattr(editor, "templates"):
        assert editor.edit([longest]).applied == ["long"]
        return
    reason = editor.edit([longest]).skipped["long"]
    assert reason.startswith(f"unsupported: the longest row of {type(editor).__name__}, with what it puts around")
    around = max(len(lm.encode(t.replace("{}", longest.prompt)).ids) for t in TEMPLATES) - POSITIONS + answer
    assert f"takes {POSITIONS + around - 1} tokens" in reason  # the answer's last token is not fed in
    assert editor.edit([request_of(lm, POSITIONS + 1 - answer - around)]).applied == ["long"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", each([method for method in WRITERS if method not in WITHOUT_THE_MODEL]))
def test_nan_stops_the_edit_names_it_and_leaves_the_model(method, architecture):
    lm = tiny_lm(architecture)
    editor = editor_of(method, lm)
    editor.prepare([])
    editor.edit(REQUESTS[:1])
    lm.model.get_input_embeddings().weight.data[lm.encode("Toko").ids[-1]] = float("nan")
    before, edited, answers = weights(lm), editor.ledger.edited_ids, logits(editor)
    with pytest.raises(EditError) as error:
        editor.edit([REQUESTS[1]])
    assert (error.value.ids, error.value.kind) == (("b",), NOT_FINITE)
    assert all(torch.equal(before[k].nan_to_num(7), v.nan_to_num(7)) for k, v in weights(lm).items())
    assert editor.ledger.edited_ids == edited
    assert torch.equal(logits(editor).nan_to_num(7), answers.nan_to_num(7))


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("method", each(WRITERS))
def test_other_dtypes(method, dtype):
    editor = editor_of(method, tiny_lm("llama", dtype))
    before = logits(editor)
    result = editor.edit(REQUESTS[:2])
    assert result.applied == ["a", "b"]
    assert torch.isfinite(logits(editor).float()).all()
    assert not torch.equal(logits(editor), before)


@pytest.mark.parametrize("method", each(METHODS))
def test_footprint_and_gradients(method):
    """Bytes are counted, and the model is left frozen and in evaluation mode."""
    editor = editor_of(method, tiny_lm("gpt2"))
    editor.edit(REQUESTS[:2])
    footprint = editor.footprint()
    assert min(footprint.device, footprint.host, footprint.disk) >= 0
    assert not any(p.requires_grad for p in editor.lm.model.parameters())
    assert all(p.grad is None for p in editor.lm.model.parameters())
    assert not editor.lm.model.training
