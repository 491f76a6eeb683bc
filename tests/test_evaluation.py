"""The evaluation's forward equals the plain oracle, on every architecture, however rows are laid out."""

import contextlib
import logging
import math
from dataclasses import replace

import pytest
import torch

from editbench.model import likelihood
from editbench.model.likelihood import NO_ANSWER, Query, answer
from editbench.model.packed_targets import PADDING, PROMPT, SHARED, Pair, Tokeniser, lead_of, packed_mask
from tests.oracles import evaluation as oracle
from tests.zoo import POSITIONS, TINY_ARCHITECTURES, WINDOW, tiny_lm

torch.set_num_threads(1)

TARGETS = ("French", "English and Russian, they say", "Manila", "the guitar in Birmingham")
QUERIES = [
    Query("The mother tongue of Danielle Darrieux is", TARGETS),
    Query("Paris", TARGETS[1:]),
    Query("The official language of a person from Łódź or São Paulo in the Autonomous University is", TARGETS[:2]),
    Query("Rome is in", ("Italian speaker",)),
    Query("", ("Toko Yasuda plays the guitar.", "Rome")),
    Query("Paris", ("French",)),
]


def assert_as_oracle(lm, queries, tolerance=1e-5, **options):
    for query, answers in zip(queries, answer(lm, queries, **options), strict=True):
        for target, found in zip(query.targets, answers, strict=True):
            nll, correct, argmax = oracle.answer(lm, query.prompt, target)
            assert found.nll == pytest.approx(nll, abs=tolerance, nan_ok=True), (query.prompt, target)
            assert (found.correct, found.argmax) == (correct, argmax), (query.prompt, target)
            assert found.tokens == len(argmax)


# -- against the oracle -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_equals_the_oracle(architecture, bos, dtype):
    lm = tiny_lm(architecture, dtype, bos=bos)
    assert_as_oracle(lm, QUERIES, padding_side="right", tokens_per_batch=150)
    assert_as_oracle(lm, QUERIES, padding_side="left", tokens_per_batch=150)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", ["gpt2", "mistral", "qwen2", "gemma3"])
def test_equals_the_oracle_with_eager_attention(architecture, side):
    assert_as_oracle(tiny_lm(architecture, attention="eager"), QUERIES, padding_side=side)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", ["gpt2", "mistral", "qwen2", "gemma3"])
def test_models_that_take_no_packed_rows_get_one_row_for_each_long_target(architecture, side):
    lm = tiny_lm(architecture)
    lm.architecture = replace(lm.architecture, packed_targets=False)
    assert_as_oracle(lm, QUERIES, padding_side=side)
    query = QUERIES[0]
    long = sum(len(lm.continuation(t)) > 1 for t in query.targets)
    assert sum(count_rows(lm, [query])) == long > 1


@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_the_batch_budget_changes_nothing(budget):
    assert_as_oracle(tiny_lm("llama", bos=True), QUERIES, tokens_per_batch=budget)


def test_half_precision_is_scored_in_float32():
    lm = tiny_lm("llama", "bfloat16")
    (found,) = answer(lm, QUERIES[:1])
    exact = answer(tiny_lm("llama"), QUERIES[:1])[0]
    assert [a.nll for a in found] == pytest.approx([a.nll for a in exact], rel=0.05)
    assert all(a.nll != float(torch.tensor(a.nll).bfloat16()) for a in found)


def test_the_sliding_window_matters_here():
    lm = tiny_lm("mistral")
    windowed = answer(lm, QUERIES[:1])[0]
    assert len(lm.encode(QUERIES[0].prompt).ids) > WINDOW
    lm.model.config.sliding_window = None
    free = answer(lm, QUERIES[:1])[0]
    assert all(abs(a.nll - b.nll) > 1e-4 for a, b in zip(windowed, free, strict=True))


# -- what runs --------------------------------------------------------------------------------------------------------


def count_rows(lm, queries, **options):
    """Rows of each batch that the decoder sees."""
    seen = []
    hook = lm.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    try:
        answer(lm, queries, **options)
    finally:
        hook.remove()
    return seen


def test_each_prompt_runs_once():
    lm = tiny_lm("gpt2")
    prompts = {q.prompt for q in QUERIES if q.prompt}
    texts = sum(len(q.targets) for q in QUERIES if not q.prompt)  # without a prompt there is nothing to share
    texts -= sum(len(lm.encode(t).ids) < 2 for q in QUERIES if not q.prompt for t in q.targets)
    assert sum(count_rows(lm, QUERIES + QUERIES)) == len(prompts) + texts
    assert len(count_rows(lm, QUERIES, tokens_per_batch=10_000)) == 1


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
def test_many_targets_of_a_short_prompt_do_not_make_one_endless_row(bos):
    """A row of them all would take memory with its square."""
    lm = tiny_lm("llama", bos=bos)
    targets = tuple(f"The mother tongue of {name} is " + "French " * 9 for name in "ABCDEFGHIJKLMNOPQRST")
    query = Query("Paris", targets)
    widths = []
    hook = lm.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    assert_as_oracle(lm, [query])
    hook.remove()
    prompt = len(lm.encode(query.prompt).ids)
    assert max(widths) <= prompt + SHARED < sum(len(lm.encode(text).ids) for text in targets) / 4


def test_the_head_sees_the_needed_outputs_only(monkeypatch):
    lm = tiny_lm("gpt2")
    seen = []
    logits = lm.logits
    monkeypatch.setattr(lm, "logits", lambda hidden: seen.append(len(hidden)) or logits(hidden))
    answer(lm, QUERIES[:2])
    lengths = [[len(lm.continuation(t)) for t in q.targets] for q in QUERIES[:2]]
    assert sum(seen) == sum(1 + sum(n - 1 for n in several) for several in lengths)


def test_targets_of_one_token_take_no_column():
    lm = tiny_lm("gpt2")
    short = next(t for t in ("Rome", "French", "is") if len(lm.continuation(t)) == 1)
    widths = []
    lm.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    answer(lm, [Query("Paris is in", (short,))])
    assert widths == [len(lm.encode("Paris is in").ids)]


def test_the_vocabulary_is_taken_in_chunks(monkeypatch):
    lm = tiny_lm("llama")
    whole = answer(lm, QUERIES)
    monkeypatch.setattr(likelihood, "_LOGITS_AT_ONCE", 3 * lm.config.vocab_size)
    sizes = []
    logits = lm.logits
    monkeypatch.setattr(lm, "logits", lambda hidden: sizes.append(len(hidden)) or logits(hidden))
    for one, other in zip(whole, answer(lm, QUERIES), strict=True):
        assert [a.argmax for a in one] == [a.argmax for a in other]
        assert [a.nll for a in one] == pytest.approx([a.nll for a in other], abs=1e-5, nan_ok=True)
    assert max(sizes) == 3


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_editor_learns_where_prompts_end(side):
    lm = tiny_lm("gpt2", bos=True)

    class Recorder:
        def __init__(self):
            self.batches = []

        @contextlib.contextmanager
        def answering(self, last_prompt_columns):
            hook = lm.decoder.register_forward_pre_hook(
                lambda module, args, kwargs: self.batches.append((list(last_prompt_columns), kwargs["input_ids"])),
                with_kwargs=True,
            )
            yield
            hook.remove()

    editor = Recorder()
    answer(lm, QUERIES, editor=editor, padding_side=side, tokens_per_batch=100)
    assert len(editor.batches) > 1
    ends = {tuple(lm.encode(q.prompt).ids) for q in QUERIES if q.prompt}
    texts = [tuple(lm.encode(text).ids) for q in QUERIES if not q.prompt for text in q.targets]
    ends |= {ids[: lead_of(ids, lm.tokenizer.bos_token_id)] for ids in texts}
    for columns, ids in editor.batches:
        assert len(columns) == len(ids)
        for column, row in zip(columns, ids.tolist(), strict=True):
            start = row.index(lm.tokenizer.bos_token_id)
            assert tuple(row[start : column + 1]) in ends
            assert start == 0 or side == "left"


def test_a_mask_by_hand():
    segments = torch.tensor([[PADDING, PROMPT, PROMPT, PROMPT, 1, 1, 2]])
    positions = torch.tensor([[0, 0, 1, 2, 3, 4, 3]])
    sees = [
        "x......",
        ".x.....",
        ".xx....",
        ".xxx...",
        ".xxxx..",
        ".xxxxx.",
        ".xxx..x",
    ]
    expected = torch.tensor([[c == "x" for c in line] for line in sees])
    full = packed_mask(positions, segments, torch.float32)
    assert torch.equal(full[0, 0] == 0, expected)
    assert full.min() == torch.finfo(torch.float32).min
    windowed = packed_mask(positions, segments, torch.float32, window=2)[0, 0] == 0
    assert windowed[5].tolist() == [c == "x" for c in "....xx."]
    assert windowed[6].tolist() == [c == "x" for c in "...x..x"]


# -- odd questions ----------------------------------------------------------------------------------------------------


def test_without_a_prompt_the_first_token_is_scored_behind_bos_only():
    for bos in (False, True):
        lm = tiny_lm("gpt2", bos=bos)
        text = "Toko Yasuda plays the guitar."
        ids = tuple(lm.encode(text).ids)
        ((found,),) = answer(lm, [Query("", (text,))])
        assert found.tokens == len(ids) - 1
        assert found.tokens == len(lm.tokenizer(text, add_special_tokens=False).input_ids) - (not bos)
        assert Tokeniser(lm)("", text) == Pair(ids[:1], ids[1:], lead=bos + (len(ids) - bos) // 2)
        assert Tokeniser(lm, 7)("", text) == Pair(ids[:1], ids[1:7], lead=bos + (7 - bos) // 2)


def test_the_first_half_of_a_text_leads_by_hand():
    found = [lead_of(text, None) for text in ((), (5,), (5, 6), (5, 6, 7), (5, 6, 7, 8))]
    assert found == [1, 1, 1, 1, 2]
    found = [lead_of(text, 0) for text in ((0,), (0, 5), (0, 5, 6), (0, 5, 6, 7), (0, 5, 6, 7, 8))]
    assert found == [1, 1, 2, 2, 3]  # BOS stands before the first half


@pytest.mark.parametrize("bos", [False, True])
def test_a_text_that_is_too_long_is_cut_before_its_middle_is_sought(bos):
    lm = tiny_lm("gpt2", bos=bos)
    text = "Toko Yasuda plays the guitar, and " * 40
    ids = tuple(lm.encode(text).ids[: lm.max_length + 1])  # the last one is not fed in
    pair = Tokeniser(lm)("", text)
    assert pair.cut and pair.prompt + pair.target == ids
    assert pair.lead == bos + (len(ids) - bos) // 2


def test_nothing_to_score_is_no_error():
    lm = tiny_lm("gpt2")
    text = next(t for t in ("is", "a", "The") if len(lm.encode(t).ids) == 1)
    ((found, empty),) = answer(lm, [Query("", (text, ""))])
    for one in (found, empty):
        assert math.isnan(one.nll) and one.tokens == 0 and one.correct == () and one.finite
    assert answer(lm, []) == []
    assert answer(lm, [Query("Paris", ())]) == [()]


def test_a_model_without_numbers_is_told_not_raised():
    lm = tiny_lm("gpt2")
    lm.mlp_out(1).weight.data[0, 0] = math.nan
    for found in answer(lm, QUERIES[:1])[0]:
        assert math.isnan(found.nll) and not found.finite
        assert not any(found.correct) and set(found.argmax) == {NO_ANSWER}


def test_impossible_targets_have_infinite_nll():
    lm = tiny_lm("llama")
    target = "Rome"
    head = torch.zeros(lm.config.vocab_size)
    head[lm.continuation(target)[0]] = -math.inf
    lm.model.lm_head.bias = torch.nn.Parameter(head, requires_grad=False)
    ((found,),) = answer(lm, [Query("Paris is in", (target,))])
    assert found.nll == math.inf and not found.finite and not found.correct[0] and found.argmax[0] != NO_ANSWER


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("architecture", ["gpt2", "opt", "gemma2"])
def test_long_prompts_lose_their_beginning(architecture, bos, caplog):
    lm = tiny_lm(architecture, bos=bos)
    prompt, target = "The mother tongue of Danielle Darrieux is French. " * 20 + "Paris is in", "English and Russian"
    ids, gold = lm.encode(prompt).ids, lm.continuation(target)
    room = POSITIONS + 1 - len(gold)
    kept = ids[:1] + ids[-(room - 1) :] if bos else ids[-room:]
    with caplog.at_level(logging.WARNING):
        ((found, _),) = answer(lm, [Query(prompt, (target, target))])
    assert found.cut and "cut" in caplog.text and "2 of 2" in caplog.text
    log_p = lm.model(torch.tensor([kept + gold[:-1]])).logits[0].log_softmax(-1)
    nll = [-log_p[len(kept) - 1 + i, token].item() for i, token in enumerate(gold)]
    assert found.nll == pytest.approx(sum(nll) / len(nll), abs=1e-5)


def test_long_targets_lose_their_end():
    lm = tiny_lm("gpt2", bos=True)
    ((found, short),) = answer(lm, [Query("Paris is in", ("French and Russian " * 60, "Rome"))])
    assert found.cut and found.tokens == POSITIONS + 1 - 2  # BOS and the prompt's last token stay
    assert not short.cut
    assert len(answer(lm, [Query("Paris", ("French and Russian",))], max_target_tokens=2)[0][0].correct) == 2


def test_settings_are_checked():
    lm = tiny_lm("gpt2")
    with pytest.raises(ValueError, match="did you mean 'left'"):
        answer(lm, QUERIES, padding_side="lefft")
    with pytest.raises(ValueError, match="tokens_per_batch is 0"):
        answer(lm, QUERIES, tokens_per_batch=0)
