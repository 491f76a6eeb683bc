"""The evaluation's forward equals the plain oracle, on every architecture, however rows are laid out."""

import contextlib
import logging
import math
from dataclasses import replace

import pytest
import torch

from editbench.model import likelihood
from editbench.model.likelihood import NOT_A_NUMBER, Query, score_targets
from editbench.model.packed_targets import MIN_SHARED_COLUMNS, Pair, Tokeniser, lead_of
from tests.evaluation.examples import Bystander, PromptEditor
from tests.oracles import evaluation as oracle
from tests.tiny_models import POSITIONS, TINY_ARCHITECTURES, WINDOW, tiny_lm

TARGETS = ("French", "English and Russian, they say", "Manila", "the guitar in Birmingham")
QUERIES = [
    Query("The mother tongue of Danielle Darrieux is", TARGETS),
    Query("Paris", TARGETS[1:]),
    Query("The official language of a person from Łódź or São Paulo in the Autonomous University is", TARGETS[:2]),
    Query("Rome is in", ("Italian speaker",)),
    Query("", ("Toko Yasuda plays the guitar.", "Rome")),
    Query("Paris", ("French",)),
]


def by_rows(lm):
    """The model, which now runs padded rows."""
    lm.runs_trees = False
    return lm


def assert_as_oracle(lm, queries, tolerance=1e-5, **options):
    for query, answers in zip(queries, score_targets(lm, queries, **options), strict=True):
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
    assert_as_oracle(lm, QUERIES, tokens_per_batch=150)
    for side in ("right", "left"):
        assert_as_oracle(by_rows(lm), QUERIES, padding_side=side, tokens_per_batch=150)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", ["gpt2", "mistral", "qwen2", "gemma3"])
def test_equals_the_oracle_with_eager_attention(architecture, side):
    lm = tiny_lm(architecture, attention="eager")
    assert_as_oracle(lm, QUERIES)
    assert_as_oracle(by_rows(lm), QUERIES, padding_side=side)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", ["gpt2", "mistral", "qwen2", "gemma3"])
def test_models_that_take_no_packed_rows_get_one_row_for_each_long_target(architecture, side):
    lm = by_rows(tiny_lm(architecture))
    lm.architecture = replace(lm.architecture, packed_targets=False)
    assert_as_oracle(lm, QUERIES, padding_side=side)
    query = QUERIES[0]
    long = sum(len(lm.continuation(t)) > 1 for t in query.targets)
    assert sum(count_rows(lm, [query])) == long > 1


@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_the_batch_budget_changes_nothing(budget):
    assert_as_oracle(tiny_lm("llama", bos=True), QUERIES, tokens_per_batch=budget)
    assert_as_oracle(by_rows(tiny_lm("llama", bos=True)), QUERIES, tokens_per_batch=budget)


def test_half_precision_is_scored_in_float32():
    lm = tiny_lm("llama", "bfloat16")
    (found,) = score_targets(lm, QUERIES[:1])
    exact = score_targets(tiny_lm("llama"), QUERIES[:1])[0]
    assert [a.nll for a in found] == pytest.approx([a.nll for a in exact], rel=0.05)
    assert all(a.nll != float(torch.tensor(a.nll).bfloat16()) for a in found)


def test_the_sliding_window_matters_here():
    lm = tiny_lm("mistral")
    windowed = score_targets(lm, QUERIES[:1])[0]
    assert len(lm.encode(QUERIES[0].prompt).ids) > WINDOW
    lm.model.config.sliding_window = None
    free = score_targets(lm, QUERIES[:1])[0]
    assert all(abs(a.nll - b.nll) > 1e-4 for a, b in zip(windowed, free, strict=True))


# -- what runs --------------------------------------------------------------------------------------------------------


def count_rows(lm, queries, **options):
    """Rows of each batch that the decoder sees."""
    seen = []
    hook = lm.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    try:
        score_targets(lm, queries, **options)
    finally:
        hook.remove()
    return seen


def test_common_beginnings_run_once():
    lm, sizes = tiny_lm("gpt2"), []
    lm.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    score_targets(lm, QUERIES + QUERIES, tokens_per_batch=10_000)
    pairs = [Tokeniser(lm)(query.prompt, target) for query in QUERIES for target in query.targets]
    rows = [pair.prompt + pair.target[:-1] for pair in pairs if pair.target]
    assert sizes == [(1, len({row[:end] for row in rows for end in range(1, len(row) + 1)}))]
    sizes.clear()
    score_targets(lm, QUERIES, tokens_per_batch=40)
    longest = max(map(len, rows))
    assert len(sizes) > 1 and all(tokens <= max(40, longest) for _, tokens in sizes)


def test_each_prompt_runs_once_in_padded_rows():
    lm = by_rows(tiny_lm("gpt2"))
    prompts = {q.prompt for q in QUERIES if q.prompt}
    texts = sum(len(q.targets) for q in QUERIES if not q.prompt)  # without a prompt there is nothing to share
    texts -= sum(len(lm.encode(t).ids) < 2 for q in QUERIES if not q.prompt for t in q.targets)
    assert sum(count_rows(lm, QUERIES + QUERIES)) == len(prompts) + texts
    assert len(count_rows(lm, [QUERIES[1], QUERIES[3]], tokens_per_batch=10_000)) == 1  # of similar length


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
def test_many_targets_of_a_short_prompt_do_not_make_one_endless_row(bos):
    """A row of them all would take memory with its square."""
    lm = by_rows(tiny_lm("llama", bos=bos))
    targets = tuple(f"The mother tongue of {name} is " + "French " * 9 for name in "ABCDEFGHIJKLMNOPQRST")
    query = Query("Paris", targets)
    widths = []
    hook = lm.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    assert_as_oracle(lm, [query])
    hook.remove()
    prompt = len(lm.encode(query.prompt).ids)
    assert max(widths) <= prompt + MIN_SHARED_COLUMNS < sum(len(lm.encode(text).ids) for text in targets) / 4


def test_the_head_sees_the_needed_outputs_only(monkeypatch):
    lm = tiny_lm("gpt2")
    seen = []
    logits = lm.logits
    monkeypatch.setattr(lm, "logits", lambda hidden: seen.append(len(hidden)) or logits(hidden))
    score_targets(lm, QUERIES[:2])
    lengths = [[len(lm.continuation(t)) for t in q.targets] for q in QUERIES[:2]]
    assert sum(seen) == sum(1 + sum(n - 1 for n in several) for several in lengths)


def test_targets_of_one_token_take_no_column():
    lm = tiny_lm("gpt2")
    short = next(t for t in ("Rome", "French", "is") if len(lm.continuation(t)) == 1)
    widths = []
    lm.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    score_targets(lm, [Query("Paris is in", (short,))])
    assert widths == [len(lm.encode("Paris is in").ids)]


def test_the_vocabulary_is_taken_in_chunks(monkeypatch):
    lm = tiny_lm("llama")
    whole = score_targets(lm, QUERIES)
    monkeypatch.setattr(likelihood, "_MAX_LOGITS", 3 * lm.config.vocab_size)
    sizes = []
    logits = lm.logits
    monkeypatch.setattr(lm, "logits", lambda hidden: sizes.append(len(hidden)) or logits(hidden))
    for one, other in zip(whole, score_targets(lm, QUERIES), strict=True):
        assert [a.argmax for a in one] == [a.argmax for a in other]
        assert [a.nll for a in one] == pytest.approx([a.nll for a in other], abs=1e-5, nan_ok=True)
    assert max(sizes) == 3


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_editor_learns_where_prompts_end(side):
    lm = tiny_lm("gpt2", bos=True)

    class Recorder:
        asked = staticmethod(str)

        def __init__(self):
            self.batches = []

        answers_by_row = True

        @contextlib.contextmanager
        def answering(self, last_prompt_columns):
            hook = lm.decoder.register_forward_pre_hook(
                lambda module, args, kwargs: self.batches.append((list(last_prompt_columns), kwargs["input_ids"])),
                with_kwargs=True,
            )
            yield
            hook.remove()

    editor = Recorder()
    score_targets(lm, QUERIES, editor=editor, padding_side=side, tokens_per_batch=100)
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


# -- odd questions ----------------------------------------------------------------------------------------------------


def test_without_a_prompt_the_first_token_is_scored_behind_bos_only():
    for bos in (False, True):
        lm = tiny_lm("gpt2", bos=bos)
        text = "Toko Yasuda plays the guitar."
        ids = tuple(lm.encode(text).ids)
        ((found,),) = score_targets(lm, [Query("", (text,))])
        assert found.tokens == len(ids) - 1
        assert found.tokens == len(lm.tokenizer(text, add_special_tokens=False).input_ids) - (not bos)
        assert Tokeniser(lm)("", text) == Pair(ids[:1], ids[1:], lead=bos + (len(ids) - bos) // 2)
        assert Tokeniser(lm, 7)("", text) == Pair(ids[:1], ids[1:7], lead=bos + (7 - bos) // 2)


def test_nothing_to_score_is_no_error():
    lm = tiny_lm("gpt2")
    text = next(t for t in ("is", "a", "The") if len(lm.encode(t).ids) == 1)
    ((found, empty),) = score_targets(lm, [Query("", (text, ""))])
    for one in (found, empty):
        assert math.isnan(one.nll) and one.tokens == 0 and one.correct == () and one.finite
    assert score_targets(lm, []) == []
    assert score_targets(lm, [Query("Paris", ())]) == [()]


def test_a_model_without_numbers_is_told_not_raised():
    lm = tiny_lm("gpt2")
    lm.mlp_out(1).weight.data[0, 0] = math.nan
    for found in score_targets(lm, QUERIES[:1])[0]:
        assert math.isnan(found.nll) and not found.finite
        assert not any(found.correct) and set(found.argmax) == {NOT_A_NUMBER}


def test_impossible_targets_have_infinite_nll():
    lm = tiny_lm("llama")
    target = "Rome"
    head = torch.zeros(lm.config.vocab_size)
    head[lm.continuation(target)[0]] = -math.inf
    lm.model.lm_head.bias = torch.nn.Parameter(head, requires_grad=False)
    ((found,),) = score_targets(lm, [Query("Paris is in", (target,))])
    assert found.nll == math.inf and not found.finite and not found.correct[0] and found.argmax[0] != NOT_A_NUMBER


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("architecture", ["gpt2", "opt", "gemma2"])
def test_long_prompts_lose_their_beginning(architecture, bos, caplog):
    lm = tiny_lm(architecture, bos=bos)
    prompt, target = "The mother tongue of Danielle Darrieux is French. " * 20 + "Paris is in", "English and Russian"
    ids, gold = lm.encode(prompt).ids, lm.continuation(target)
    left = POSITIONS + 1 - len(gold)
    kept = ids[:1] + ids[-(left - 1) :] if bos else ids[-left:]
    with caplog.at_level(logging.WARNING):
        ((found, _),) = score_targets(lm, [Query(prompt, (target, target))])
    assert found.cut and "cut" in caplog.text and "2 of 2" in caplog.text
    log_p = lm.model(torch.tensor([kept + gold[:-1]])).logits[0].log_softmax(-1)
    nll = [-log_p[len(kept) - 1 + i, token].item() for i, token in enumerate(gold)]
    assert found.nll == pytest.approx(sum(nll) / len(nll), abs=1e-5)


def test_long_targets_lose_their_end():
    lm = tiny_lm("gpt2", bos=True)
    ((found, short),) = score_targets(lm, [Query("Paris is in", ("French and Russian " * 60, "Rome"))])
    assert found.cut and found.tokens == POSITIONS + 1 - 2  # BOS and the prompt's last token stay
    assert not short.cut
    assert len(score_targets(lm, [Query("Paris", ("French and Russian",))], max_target_tokens=2)[0][0].correct) == 2


def test_settings_are_checked():
    lm = tiny_lm("gpt2")
    with pytest.raises(ValueError, match="did you mean 'left'"):
        score_targets(lm, QUERIES, padding_side="lefft")
    with pytest.raises(ValueError, match="tokens_per_batch is 0"):
        score_targets(lm, QUERIES, tokens_per_batch=0)


# -- behind an editor's text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
def test_prompts_are_scored_behind_the_editors_text(bos):
    lm, editor = tiny_lm("llama", "float64", bos=bos), PromptEditor()
    queries = [query for query in QUERIES if query.prompt]
    behind = [Query(editor.asked(query.prompt), query.targets) for query in queries]
    assert score_targets(lm, queries, editor=editor) == score_targets(lm, behind)
    assert score_targets(lm, queries, editor=Bystander()) == score_targets(lm, queries)


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
def test_of_a_text_its_own_tokens_alone_are_scored_behind_the_editors_text(bos):
    lm, editor = tiny_lm("gpt2", "float64", bos=bos), PromptEditor()
    text = "Toko Yasuda plays the guitar."
    front, own = lm.encode(editor.FRONT).ids, lm.encode(text).ids
    ((plain,), (found,)) = score_targets(lm, [Query("", (text,))]) + score_targets(
        lm, [Query("", (text,))], editor=editor
    )
    fed = [*front, *own[bos:]]
    log_p = lm.model(torch.tensor([fed])).logits[0].log_softmax(-1)
    scored = own[1:]
    nll = [-log_p[len(fed) - len(scored) + i - 1, token].item() for i, token in enumerate(scored)]
    assert found.tokens == plain.tokens == len(scored)
    assert found.nll == pytest.approx(sum(nll) / len(nll)) and found.nll != pytest.approx(plain.nll, abs=1e-6)
    (columns,) = editor.columns
    assert columns == [len(front) + (len(own) - bos) // 2 - 1]  # the text's own first half, behind the editor's text


def test_a_text_is_tokenised_once(monkeypatch):
    lm, seen = tiny_lm("gpt2"), []
    encode = lm.encode
    monkeypatch.setattr(lm, "encode", lambda text: seen.append(text) or encode(text))
    score_targets(lm, QUERIES, editor=Bystander())
    assert sorted(seen) == sorted(
        {q.prompt for q in QUERIES if q.prompt} | {t for q in QUERIES[4:5] for t in q.targets}
    )
