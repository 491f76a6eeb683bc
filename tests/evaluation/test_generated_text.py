"""Matching of answers, fluency and consistency: by hand, with seeded draws, and through the evaluator."""

import json
import math
import re
import string

import pytest
import torch

from editbench import datasets
from editbench.evaluation.evaluator import Evaluator
from editbench.evaluation.generated_text import (
    TOKENS,
    GeneratedTexts,
    Idf,
    contains,
    cosine,
    cut,
    entropy,
    matches,
    normalise,
    overlap,
    same,
    terms,
    tokens,
)
from editbench.evaluation.metrics import get_metric
from editbench.model.generation import Generation, generate
from editbench.records import EditRecord, EditRequest, GenerationPrompts
from tests.tiny_models import tiny_lm

STAMP = {"stage": "final", "edits": 1, "batch": 0}
PROMPTS = ("Paris is in", "The mother tongue of Danielle Darrieux is", "Rome")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The  English\tlanguage. ", "english language"),
        ("U.S. “quoted”, (an) apple", "us quoted apple"),
        ("Straße", "strasse"),
        ("The", "the"),
        ("!!!", "!!!"),
        ("", ""),
        ("French-speaking; France's", "french speaking france s"),
        ("C# and C++, not C", "c# and c++ not c"),
        ("-5 or \u22125, 3-5, 1914–1918", "-5 or -5 3 5 1914 1918"),
        ("10,000.5 of 1.5m, 1/2 and .5", "10000.5 of 1.5m 1 2 and .5"),
        ("1962, 1963. 50% of $5", "1962 1963 50 of $ 5"),
        ("Ph.D. of J.R.R.Tolkien.This", "phd of jrr tolkien this"),
        ("法国的首都是巴黎。", "法 国 的 首 都 是 巴 黎"),
        ("Sa\u0303o Paulo", "são paulo"),
        ("١٩٦٢ و ٣٫٥ و ١٬٠٠٠", "1962 و 3.5 و 1000"),
        ("१९६२, ১৯৬২, ๑๙๖๒", "1962 1962 1962"),
        ("１９６２年、１，０００．５人", "1962 年 1000.5 人"),
        ("Ｃ＃ ＮＡＴＯ －５", "c# nato -5"),
        ("x² Ⅳ 四", "x² ⅳ 四"),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("English. He was", "French", "English."),
        ("English\nFrench", "French", "English"),
        ("\n English, they say", "French", "English, they say"),
        ("St. Louis. It is", "St. Louis", "St. Louis."),
        ("St. Louis. It is", None, "St."),
        ('He said "no." Then', None, 'He said "no."'),
        ("3.5 million people", "3", "3.5 million people"),
        ("Hans Eysenck.This is a", "Hans Eysenck", "Hans Eysenck."),
        ("1987.This is", "1988", "1987."),
        ("the U.S.A and", "Rome", "the U.S.A and"),
        ("from vitaminC.D on", "Rome", "from vitaminC.D on"),
        ("I live in Rome.We", "Rome", "I live in Rome."),
        ("Amazon.COM. It", "Amazon.COM", "Amazon.COM."),
        ("巴黎。法国的首都", "巴黎", "巴黎。"),
        ("पेरिस।फ्रांस", "पेरिस", "पेरिस।"),
        ("Փարիզ։Ֆրանսիա", "Փարիզ", "Փարիզ։"),
        ("ប៉ារីស។បារាំង", "ប៉ារីស", "ប៉ារីស។"),
        ("ပါရီ။ပြင်သစ်", "ပါရီ", "ပါရီ။"),
        ("ፓሪስ።ፈረንሳይ", "ፓሪስ", "ፓሪስ።"),
        ("པེ་རི་སི།ཕ་རན་སི", "པེ་རི་སི", "པེ་རི་སི།"),
        ("「東京。」次は", "東京", "「東京。」"),
        ("Paris‼Rome", "Paris", "Paris‼"),
        ("", "x", ""),
    ],
)
def test_where_an_answer_ends(text, gold, expected):
    assert cut(text, gold) == expected


def squad(text):
    """The normalisation of SQuAD 1.1's evaluation script (Rajpurkar et al. 2016), word for word."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


@pytest.mark.parametrize(
    "text",
    [
        "The mother tongue of Danielle Darrieux is French.",
        '"An answer," (they say): Paris!',
        "the U.S. and the D.C. of A.",
        "10,000 people; 50% of them, in 1962.",
        "Rock and roll, *bold* and 'quoted'",
        "Łódź is a city, isn it?",
        "",
    ],
)
def test_plain_answers_are_normalised_as_squad_does(text):
    assert normalise(text) == squad(text)


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        *(("1.5", "15", False), ("-5", "5", False), ("1/2", "12", False), ("3-1", "31", False), ("C#", "C", False)),
        *(("50%", "50", True), ("10,000", "10000", True), ("U.S.", "US", True), ("1962.", "1962", True)),
        *(("1,5", "15", False), ("C++", "C", False), ("1.50 m", "1.5 m", False), ("Jean Paul", "Jean-Paul", True)),
        *(("A+", "A", False), ("3:1", "31", False), ("x²", "x", False), ("2,5", "25", False), ("F#", "F", False)),
        *(("R&D", "RD", False), ("1e5", "15", False), ("v1.2", "v12", False), ("\u20135", "5", False)),
        *(("\u22125", "-5", True), ("مرحبا؟", "مرحبا", True), ("Sa\u0303o", "são", True)),
    ],
)
def test_numbers_signs_and_names_that_are_not_equal(text, gold, right):
    assert matches(text, gold) is matches(gold, text) is right
    assert contains(f"It is {text} there", gold) is right


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("a French-speaking town", "French", True),
        ("he is France's king", "France", True),
        ("he is France’s king", "France", True),
        ("born there (1914–1918)", "1918", True),
        ("by Hans Eysenck.This is", "Hans Eysenck", True),
        ("Frances sings", "France", False),
        ("Iranian", "Iran", False),
        ("法国的首都是巴黎，在", "巴黎", True),
        ("法国的首都是巴黎，在", "北京", False),
        ("เขาอยู่ที่กรุงเทพมหานคร", "กรุงเทพ", True),
        ("그는 파리에서 태어났다", "파리", True),
        ("वह पेरिस में है", "पेर", False),
    ],
)
def test_an_answer_is_found_in_any_script(text, gold, expected):
    assert contains(text, gold) is expected


def test_chinese_answers_overlap_by_their_letters():
    assert overlap("北京市", "北京") == pytest.approx(4 / 5)


def test_same_answers():
    assert matches("the English. He", "English") and not matches("English and French", "English")
    assert not matches("Eng", "English") and not matches("", "English")
    assert contains("It is English, I say", "english") and not contains("Englishman", "English")
    assert contains("French\nor: English", "the English")
    assert same("English. He", "english. She") and not same("English", "French")
    assert same("", "")


def test_entropy_by_hand():
    assert entropy(["a", "b", "c", "d"]) == pytest.approx((2 / 3 * math.log2(3) + 4 / 3 * 1) / 2)
    assert entropy(["a", "a", "a", "a"]) == 0.0
    # bigrams ab ba ab: 2/3 and 1/3; trigrams aba bab
    half = -(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3))
    assert entropy(["a", "b", "a", "b"]) == pytest.approx((2 / 3 * half + 4 / 3 * 1) / 2)
    assert entropy([]) == entropy(["a"]) == 0.0


def test_tokens_and_terms():
    assert tokens('He said: "São Paulo\'s."') == ["He", "said", ":", '"', "São", "Paulo", "'", "s", ".", '"']
    assert terms("He said: a São Paulo's.") == ["he", "said", "são", "paulo"]


def test_cosine_by_hand():
    idf = Idf(["actor film", "film music"])
    assert idf["film"] == pytest.approx(1.0)
    assert idf["actor"] == pytest.approx(math.log(3 / 2) + 1)
    assert idf["unseen"] == pytest.approx(math.log(3) + 1)
    one, two = (2 * 1.0, idf["actor"]), (1.0, idf["music"])  # film film actor; film music
    expected = one[0] * two[0] / (math.hypot(*one) * math.hypot(*two))
    assert cosine("Film, film actor", "film music", idf) == pytest.approx(expected)
    assert cosine("film", "film", idf) == pytest.approx(1.0)
    assert cosine("", "film", idf) == cosine("a", "film", idf) == 0.0


def test_metrics_by_hand():
    fluency, likeness = get_metric("ngram_entropy").score, get_metric("consistency").score
    idf = Idf(["film"])
    assert fluency(GeneratedTexts(("a b c d", "a a a a"), (), idf)) == pytest.approx(entropy(["a", "b", "c", "d"]) / 2)
    both = GeneratedTexts(("a b c d", "a b a c a d"), (), idf)
    assert fluency(both) == pytest.approx((entropy([*"abcd"]) + entropy([*"abacad"])) / 2)
    assert likeness(GeneratedTexts(("film",), ("film",), idf)) == pytest.approx(1.0)
    partly = likeness(GeneratedTexts(("film", "actor"), ("film", "music"), idf))
    assert partly == pytest.approx(cosine("film actor", "film music", idf)) and 0 < partly < 1
    assert likeness(GeneratedTexts(("film",), (), idf)) is None and fluency(GeneratedTexts((), (), idf)) is None
    assert math.isnan(fluency(GeneratedTexts(("a b c d",), (), idf, finite=False)))
    assert math.isnan(likeness(GeneratedTexts(("film",), ("film",), idf, finite=False)))


@pytest.mark.parametrize("bos", [False, True])
def test_draws_depend_on_the_seed_and_the_prompt_alone(bos):
    lm = tiny_lm("llama", "float64", bos=bos)
    settings = Generation(top_k=5, seed=3)
    together = generate(lm, PROMPTS, [12, 5, 9], settings=settings)
    assert together == generate(lm, PROMPTS, [12, 5, 9], settings=settings, tokens_per_batch=1)
    assert [s.whole for s in together] != [s.text for s in together]
    assert together[0].whole.startswith(PROMPTS[0]) and together[0].whole.endswith(together[0].text)
    assert together != generate(lm, PROMPTS, [12, 5, 9], settings=Generation(top_k=5, seed=4))
    assert generate(lm, PROMPTS, [12, 5, 9], settings=Generation(top_k=1, seed=4)) == generate(lm, PROMPTS, [12, 5, 9])


def test_draws_follow_the_probabilities():
    lm = tiny_lm("gpt2", "float64")
    first = torch.softmax(lm.model(torch.tensor([lm.encode("Paris").ids])).logits[0, -1].topk(2).values, -1)
    best = lm.tokenizer.decode(lm.model(torch.tensor([lm.encode("Paris").ids])).logits[0, -1].argmax()).strip()
    several = [generate(lm, ["Paris"], [1], settings=Generation(top_k=2, seed=i))[0].text for i in range(300)]
    assert several.count(best) / 300 == pytest.approx(float(first[0]), abs=0.1)


def test_the_way_through_the_evaluator():
    lm = tiny_lm("gpt2", bos=True)
    request = EditRequest("r", "Paris is in", None, "Spain")
    records = [EditRecord(request, (), GenerationPrompts(PROMPTS, ("Paris is in Spain.",))), EditRecord(request)]
    evaluator = Evaluator(lm, metrics=["ngram_entropy", "consistency"], references=["Paris is in Spain."])
    wrote, silent = evaluator.score([(r, i) for i, r in enumerate(records)], **STAMP)
    limits = [TOKENS - len(lm.encode(p).ids) for p in PROMPTS]
    texts = tuple(s.whole for s in generate(lm, PROMPTS, limits, settings=Generation(top_k=5)))
    writing = GeneratedTexts(texts, ("Paris is in Spain.",), Idf(["Paris is in Spain."]))
    assert wrote["scores"]["free_text.ngram_entropy"] == pytest.approx(get_metric("ngram_entropy").score(writing))
    assert wrote["scores"]["free_text.consistency"] == pytest.approx(get_metric("consistency").score(writing))
    assert silent["scores"] == {}
    lm.mlp_out(0).weight.data.fill_(math.nan)
    assert math.isnan(evaluator.score([(records[0], 0)], **STAMP)[0]["scores"]["free_text.ngram_entropy"])


def test_prompts_and_references_are_read(tmp_path):
    file = tmp_path / "own.jsonl"
    row = {"prompt": "Rome is in", "target": "Spain", "generation_prompts": ["Rome"], "snippets": ["Spain is hot."]}
    file.write_text(json.dumps(row))
    loaded = datasets.load("custom", file)
    assert loaded.records[0].free_text == GenerationPrompts(("Rome",), ("Spain is hot.",))
    file.write_text(json.dumps({**row, "snippets": ["Spain is cold."]}))
    assert datasets.load("custom", file).fingerprint != loaded.fingerprint
    assert all(r.free_text and r.free_text.prompts for r in datasets.load("counterfact", "pocket", limit=3).records)
