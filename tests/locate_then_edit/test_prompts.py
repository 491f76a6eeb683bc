"""Where the subject ends: right for any tokenizer, prefix and place of the subject."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from editbench import EditRequest
from editbench.locate_then_edit.prompts import (
    cut_after_subject,
    kl_row,
    last_token_of,
    rewriting_rows,
    subject_row,
    subject_span,
)
from editbench.model.tokenisation import Encoded
from tests.model.test_tokenisation import STYLES, lm_with
from tests.tiny_models import tiny_lm

MODELS = {(style, bos): lm_with(STYLES[style](bos)) for style in STYLES for bos in (False, True)}
WORDS = st.text(alphabet="abcdefghABC.'-éüł", min_size=1, max_size=8).filter(lambda w: w.strip("'-. "))


def said_by(lm, row):
    """The text of the tokens up to the subject's last one."""
    return lm.tokenizer.decode(row.ids[: row.subject + 1], skip_special_tokens=True)


@pytest.mark.parametrize(("style", "bos"), MODELS)
@settings(max_examples=40, deadline=None)
@given(
    before=st.lists(WORDS, max_size=3),
    subject=st.lists(WORDS, min_size=1, max_size=3),
    after=st.lists(WORDS, max_size=3),
)
def test_the_last_subject_token_is_the_first_one_whose_text_reaches_the_subjects_end(
    style, bos, before, subject, after
):
    lm, name = MODELS[style, bos], " ".join(subject)
    prompt = " ".join([*before, name, *after])
    request = EditRequest("r", prompt, name, "x")
    row = subject_row(lm, request)
    end = subject_span(request)[1]
    assert request.prompt[:end].endswith(request.subject)
    offsets = lm.encode(prompt).offsets
    reaching = [i for i, (low, high) in enumerate(offsets) if low < end <= high]
    assert row.subject in reaching  # several where one character is several byte tokens
    assert row.subject == reaching[-1]


@pytest.mark.parametrize(("style", "bos"), MODELS)
@pytest.mark.parametrize("template", ["{}", "They say. {}", "É vero: {}"])
def test_a_prefix_moves_the_subject_and_nothing_else(style, bos, template):
    lm = MODELS[style, bos]
    request = EditRequest("r", "The twin of New York, York, is", "York", "Italian")
    row = subject_row(lm, request, template)
    before = template.replace("{}", "")
    text = before + request.prompt
    end = len(before) + request.prompt.index("York") + 4  # the first occurrence
    assert lm.encode(text).offsets[row.subject][1] >= end
    assert lm.encode(text).offsets[row.subject][0] < end
    assert list(row.ids) == lm.encode(text).ids


@pytest.mark.parametrize(
    ("prompt", "subject", "before"),
    [
        ("Which Iranian party is the largest in Iran?", "Iran", "Which Iranian party is the largest in "),
        ("The Iranian president is", "Iran", "The "),
        ("Article 5 is Art's own art", "Art", "Article 5 is "),
        ("The twin of York, York, is", "York", "The twin of "),
        ("C# came after C and", "C", "C# came after "),
        ("The Jean-Paul of Paul", "Paul", "The Jean-Paul of "),
        ("The Jean-Paul of Rome", "Paul", "The Jean-"),
        ("上海人在上海", "上海", ""),
        ("The 1962 of 196", "196", "The 1962 of "),
        ("The language spoken in Sa\u0303o Paulo is", "São Paulo", "The language spoken in "),
        ("The language spoken in São Paulo is", "Sa\u0303o Paulo", "The language spoken in "),
    ],
)
def test_the_subject_is_where_it_is_a_word_of_its_own(prompt, subject, before):
    request = EditRequest("r", prompt, subject, "x")
    start, end = subject_span(request)
    assert (request.prompt[:start], request.prompt[start:end]) == (before, request.subject)
    row = subject_row(tiny_lm("gpt2"), request, "So. {}")
    assert said_by(tiny_lm("gpt2"), row).startswith(f"So. {request.prompt[:end]}"[:-1])


def test_rows_of_the_optimisation_are_put_together_from_ids():
    lm = tiny_lm("llama", bos=True)
    request = EditRequest("r", "Toko Yasuda plays", "Toko Yasuda", "guitar, they say")
    prompt, target = lm.encode(request.prompt).ids, lm.continuation(request.target)
    (row,) = rewriting_rows(lm, request, ["{}"])
    assert list(row.ids) == prompt + target[:-1]
    assert list(row.targets) == target
    assert row.first == len(prompt) - 1
    assert said_by(lm, row) == "Toko Yasuda"
    kl = kl_row(lm, request)
    assert lm.tokenizer.decode(kl.ids, skip_special_tokens=True) == "Toko Yasuda is a"
    assert said_by(lm, kl) == "Toko Yasuda"
    assert cut_after_subject(row).ids == row.ids[: row.subject + 1]


@pytest.mark.parametrize("template", ["no place", "{} and {}"])
def test_a_template_without_one_place_is_refused(template):
    with pytest.raises(ValueError, match="must contain"):
        subject_row(tiny_lm("gpt2"), EditRequest("r", "Toko plays", "Toko", "x"), template)


GOLDEN = Path(__file__).parent.parent / "golden"
CASES = json.loads((GOLDEN / "bos_lookup_examples.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['tok'].split('-')[0]}: {c['sentence']}")
def test_golden_positions(case):
    """Published lookups, three tokenizer styles: offsets of the golden tokens give the true position."""
    spans = golden_spans(case)
    encoded = Encoded(list(range(len(spans))), spans)
    subject = spans[case["true_first"]][0], spans[case["true_last"]][1]
    assert last_token_of(encoded, *subject) == case["true_last"]


def golden_spans(case):
    """Character spans of the case's tokens: by the golden tokenizer, or for SentencePiece pieces by their lengths."""
    folder = {"gpt2": "gpt2", "llama3": "llama"}.get(case["tok"].split("-")[0])
    if folder is not None:
        tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "models" / folder)
        batch = tokenizer(case["sentence"], return_offsets_mapping=True)
        assert tokenizer.convert_ids_to_tokens(batch["input_ids"]) == case["tokens"]
        return batch["offset_mapping"]
    spans, at = [], -1  # a piece "▁" stands before the text
    for token in case["tokens"]:
        width = 0 if token in ("<s>", "</s>") else len(token)
        spans.append((max(at, 0), at + width) if width else (0, 0))
        at += width
    return spans
