"""Who answers which row: any batch of the edited model against one row at a time, the weight itself exchanged."""

import pytest
import torch

from editbench import EditRequest, make_editor
from editbench.evaluation.drift import last_hidden
from editbench.evaluation.evaluator import Evaluator
from editbench.evaluation.perplexity import text_scores
from editbench.model.likelihood import Query, score_targets
from editbench.records import Passage
from tests.oracles import scen as oracle
from tests.small_runs import architectures
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm

LAYER = 1
REQUESTS = [
    EditRequest("a", "The mother tongue of Danielle Darrieux is", None, "English"),
    EditRequest("b", "Toko Yasuda plays the", None, "piano"),
    EditRequest("c", "The official language of Galicia is", None, "Polish"),
]
PROMPTS = [
    REQUESTS[1].prompt,
    "Google works",
    REQUESTS[0].prompt,
    "What is the twin city of Lyon? It",
    REQUESTS[2].prompt,
]
STORES = ["dense", "lowrank", "quantised", "mixed"]


def edited(architecture="llama", dtype=None, store="dense", **settings):
    """A tiny model with three edits, and neurons made to fire on their own of :data:`PROMPTS` only."""
    # In float64, eager attention (Gemma's) gives NaN where padding is longer than the sliding window.
    lm = tiny_lm(architecture, dtype or ("float32" if architecture.startswith("gemma") else "float64"))
    defaults = {"layer": LAYER, "learning_rate": 0.02, "expert_steps": 20, "edits_at_once": 1}
    editor = make_editor("scen", lm, **(defaults | settings), expert_store="dense" if store == "mixed" else store)
    for i, request in enumerate(REQUESTS):
        if store == "mixed":
            editor.config.expert_store = STORES[i]
        editor.edit([request])
    own = torch.tensor([[request.prompt == prompt for request in REQUESTS] for prompt in PROMPTS])
    inputs = editor.inputs(PROMPTS)  # (5, d_ff)
    editor.bank.neurons.copy_((torch.linalg.pinv(inputs) @ (own.to(inputs) * 8 - 4)).T)
    return editor


def parts(editor):
    """What the oracle needs: neurons, differences in the model's dtype, θ."""
    dtype = editor.lm.model.dtype
    deltas = [editor.bank.peek(id).delta(dtype) for id in editor.bank.ids]
    return editor.bank.neurons, deltas, editor.config.theta


def padded(lm, prompts, side, extra=0):
    """ids, mask, and the column of each row's last token; ``extra`` columns of padding more than needed."""
    rows = [lm.encode(prompt).ids for prompt in prompts]
    width = max(len(row) for row in rows) + extra
    ids, mask, last = [], [], []
    for row in rows:
        fill = width - len(row)
        ids.append([lm.pad_id] * fill + row if side == "left" else row + [lm.pad_id] * fill)
        mask.append([0] * fill + [1] * len(row) if side == "left" else [1] * len(row) + [0] * fill)
        last.append(width - 1 if side == "left" else len(row) - 1)
    return torch.tensor(ids), torch.tensor(mask), last


def logits(lm, ids, mask):
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return lm.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits


@pytest.mark.parametrize("architecture", architectures(TINY_ARCHITECTURES))
@pytest.mark.parametrize("side", ["left", "right"])
def test_forward(architecture, side):
    editor = edited(architecture)
    lm = editor.lm
    neurons, deltas, theta = parts(editor)
    ids, mask, last = padded(lm, PROMPTS, side, extra=2)
    with torch.no_grad(), editor.answering(last):
        found = logits(lm, ids, mask)
    fired = []
    for i, prompt in enumerate(PROMPTS):
        row = lm.encode(prompt).ids
        fired.append(oracle.route(lm, LAYER, neurons, theta, row))
        with torch.no_grad(), oracle.answering(lm, LAYER, neurons, deltas, theta, row):
            wanted = lm.model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
        assert torch.allclose(found[i][mask[i].bool()], wanted, rtol=1e-4, atol=1e-4), prompt  # GPT-J, Gemma: float32
    assert fired == [1, None, 0, None, 2]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_stores_and_dtypes(store, dtype):
    editor = edited(store=store, dtype=dtype)
    lm = editor.lm
    neurons, deltas, theta = parts(editor)
    ids, mask, last = padded(lm, [*PROMPTS, PROMPTS[0]], "right")  # one expert twice
    with torch.no_grad(), editor.answering(last):
        found = logits(lm, ids, mask)
    tolerance = {"float32": 1e-3, "float64": 1e-7, "bfloat16": 0.2}[dtype]
    for i, prompt in enumerate([*PROMPTS, PROMPTS[0]]):
        row = lm.encode(prompt).ids
        with torch.no_grad(), oracle.answering(lm, LAYER, neurons, deltas, theta, row):
            wanted = lm.model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
        assert float((found[i][: len(row)] - wanted).abs().max()) < tolerance * float(wanted.abs().max())


GENERATION = {
    "greedy": {},
    "greedy without cache": {"use_cache": False},
    "beams": {"num_beams": 3},
    "returned sequences": {"num_beams": 4, "num_return_sequences": 2, "repetition_penalty": 1.1},
    "sampled": {"do_sample": True, "top_k": 1, "num_return_sequences": 2},
}


@pytest.mark.parametrize("options", GENERATION.values(), ids=GENERATION.keys())
@pytest.mark.parametrize("architecture", architectures(["gpt2", "llama", "gemma2", "opt"]))
def test_generate(architecture, options):
    editor = edited(architecture)
    lm = editor.lm
    neurons, deltas, theta = parts(editor)
    found = editor.generate(PROMPTS, max_new_tokens=5, **options)
    copies = options.get("num_return_sequences", 1)
    assert len(found) == copies * len(PROMPTS)
    for i, prompt in enumerate(PROMPTS):
        with oracle.answering(lm, LAYER, neurons, deltas, theta, lm.encode(prompt).ids):
            wanted = lm.generate(prompt, max_new_tokens=5, **options)
        assert found[copies * i : copies * (i + 1)] == wanted


def test_sampling_is_the_models_own():
    editor = edited()
    neurons, deltas, theta = parts(editor)
    options = {"do_sample": True, "num_return_sequences": 4, "max_new_tokens": 6}
    torch.manual_seed(3)
    found = editor.generate(PROMPTS[0], **options)
    torch.manual_seed(3)
    with oracle.answering(editor.lm, LAYER, neurons, deltas, theta, editor.lm.encode(PROMPTS[0]).ids):
        assert found == editor.lm.generate(PROMPTS[0], **options)


def test_edits_are_learnt():
    editor = edited(expert_steps=60, train_eos=True)
    answers = editor.generate([r.prompt for r in REQUESTS], max_new_tokens=8)
    assert [a.strip() for a in answers] == [r.target for r in REQUESTS]  # EOS included: nothing follows


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", architectures(TINY_ARCHITECTURES))
def test_nothing_fires(architecture, dtype):
    editor = edited(architecture, dtype, theta=1.0)  # a sigmoid never exceeds 1
    ids, mask, last = padded(editor.lm, PROMPTS, "right")
    with torch.no_grad():
        before = logits(editor.lm, ids, mask)
        with editor.answering(last):
            assert torch.equal(logits(editor.lm, ids, mask), before)
            assert torch.equal(logits(editor.lm, ids, mask), before)


def test_other_rows_are_untouched_bit_for_bit():
    editor = edited(dtype="float32")
    ids, mask, last = padded(editor.lm, PROMPTS, "right")
    with torch.no_grad():
        before = logits(editor.lm, ids, mask)
        with editor.answering(last):
            after = logits(editor.lm, ids, mask)
        assert torch.equal(logits(editor.lm, ids, mask), before), "outside the block the model is the base model"
    same = [bool(torch.equal(a, b)) for a, b in zip(before, after, strict=True)]
    assert same == [False, True, False, True, False]


def test_routes_hold_for_the_block():
    """A second pass within the block, on other text, is answered as the first one was."""
    editor = edited()
    lm = editor.lm
    _, deltas, _ = parts(editor)
    ids, _, last = padded(lm, [REQUESTS[0].prompt], "right")
    other = torch.tensor([lm.encode("Google works with Microsoft").ids])
    with torch.no_grad(), editor.answering(last):
        lm.model(input_ids=ids)
        found = lm.model(input_ids=other, use_cache=False).logits
    with torch.no_grad(), oracle.exchanged(lm, LAYER, deltas[0]):
        assert torch.allclose(found, lm.model(input_ids=other, use_cache=False).logits)


@pytest.mark.parametrize("side", ["left", "right"])
def test_scoring_of_many_prompts_in_one_pass(side):
    editor = edited()
    lm = editor.lm
    neurons, deltas, theta = parts(editor)
    queries = [Query(prompt, ("English", "piano", "Google")) for prompt in PROMPTS]
    for query, found in zip(queries, score_targets(lm, queries, editor=editor, padding_side=side), strict=True):
        for target, one in zip(query.targets, found, strict=True):
            with oracle.answering(lm, LAYER, neurons, deltas, theta, lm.encode(query.prompt).ids):
                ((wanted,),) = score_targets(lm, [Query(query.prompt, (target,))])
            assert one.nll == pytest.approx(wanted.nll, abs=1e-6) and one.argmax == wanted.argmax


def test_who_answers_is_told_after_the_first_pass():
    editor = edited()
    ids, mask, last = padded(editor.lm, PROMPTS, "left")
    with torch.no_grad(), editor.answering(last) as routing:
        assert routing.answered_by == [None] * 5
        logits(editor.lm, ids, mask)
        assert routing.answered_by == ["b", None, "a", None, "c"]
    for request in REQUESTS:
        editor.delete(request.id)
    with torch.no_grad(), editor.answering(last) as routing:
        logits(editor.lm, ids, mask)
        assert routing.answered_by == [None] * 5


def continued(lm, prompt):
    """A text whose first half is ``prompt``: as many of its own tokens again come after it."""
    ids = lm.encode(prompt).ids
    own = [i for i in ids if i != lm.tokenizer.bos_token_id]
    text = str(lm.tokenizer.decode(own + own[::-1]))
    assert lm.encode(text).ids == ids + own[::-1]
    return text


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
def test_a_text_without_a_prompt_is_routed_at_the_end_of_its_first_half(bos):
    lm = tiny_lm("llama", "float64", bos=bos)
    editor = make_editor("scen", lm, layer=LAYER, learning_rate=0.02, expert_steps=20, expert_store="dense")
    editor.edit(REQUESTS[:1])
    prompts = [REQUESTS[0].prompt, "Google works with Microsoft in"]
    own = torch.tensor([[4.0], [-4.0]], dtype=torch.float64)
    editor.bank.neurons.copy_((torch.linalg.pinv(editor.inputs(prompts)) @ own).T)
    texts = [continued(lm, prompt) for prompt in prompts]
    passages = [Passage("", text) for text in texts]
    neurons, deltas, theta = parts(editor)
    found = text_scores(lm, passages, editor=editor)
    assert found["routed"] == 0.5 and found["too_short"] == 0
    before = text_scores(lm, passages)
    assert "routed" not in before and found["perplexity"] != pytest.approx(before["perplexity"], rel=1e-3)
    nlls, states = [], []
    for text, prompt in zip(texts, prompts, strict=True):
        with torch.no_grad(), oracle.answering(lm, LAYER, neurons, deltas, theta, lm.encode(prompt).ids):
            nlls.append(text_scores(lm, [Passage("", text)])["perplexity_mean"])
            states.append(lm.decoder(input_ids=torch.tensor([lm.encode(text).ids])).last_hidden_state[0, -1])
    assert found["perplexity_mean"] == pytest.approx(sum(nlls) / 2, rel=1e-6)
    assert torch.allclose(last_hidden(lm, passages, editor), torch.stack(states))


def test_rows_without_prompt():
    editor = edited()
    ids, mask, last = padded(editor.lm, PROMPTS[:1], "right")
    with torch.no_grad():
        before = logits(editor.lm, ids, mask)
        with editor.answering([-1]):
            assert torch.equal(logits(editor.lm, ids, mask), before)
        with editor.answering(last):
            assert not torch.equal(logits(editor.lm, ids, mask), before)


@pytest.mark.parametrize("theta_texts", [None, 1.0])
def test_texts_may_have_a_threshold_of_their_own(theta_texts):
    """An activation never exceeds 1: with that threshold texts are the base model's, and prompts still the experts'."""
    editor = edited(theta_texts=theta_texts)
    lm, passages = editor.lm, [Passage(r.prompt, r.target) for r in REQUESTS]
    before = text_scores(lm, passages)
    evaluator = Evaluator(lm, metrics=["exact_match"], texts={"accurate": passages})
    (row,) = evaluator.score_texts("final", 3, 2, editor)
    assert (row["scores"] == {**before, "routed": 0.0}) is (theta_texts == 1.0)
    (asked,) = score_targets(lm, [Query(REQUESTS[0].prompt, (REQUESTS[0].target,))], editor=editor)
    (base,) = score_targets(lm, [Query(REQUESTS[0].prompt, (REQUESTS[0].target,))])
    assert asked[0].nll < base[0].nll
    assert editor.for_texts().bank is editor.bank and editor.config.theta == 0.65


def test_errors_name_what_was_found():
    editor = edited()
    ids, mask, last = padded(editor.lm, PROMPTS, "right")
    with editor.answering(last), pytest.raises(RuntimeError, match="already open"), editor.answering(last):
        pass
    with editor.answering([*last, 0, 0]), pytest.raises(ValueError, match="5 rows; .* of 7"):
        logits(editor.lm, ids, mask)
    with editor.answering([99] * 5), pytest.raises(ValueError, match="column 99 "):
        logits(editor.lm, ids, mask)
    assert not editor.lm.mlp_out(LAYER)._forward_hooks
