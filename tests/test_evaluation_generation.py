"""Generated text: what is said, against the plain way; where an answer ends; what counts as the same answer."""

import contextlib
import math
import re
import string

import pytest
import torch

from editbench.evaluation.answer_matching import contains, cut, matches, normalise, overlap, same
from editbench.model.generation import MARGIN, MOST, Generation, Said, generate
from tests.oracles import evaluation as oracle
from tests.zoo import POSITIONS, TINY_ARCHITECTURES, tiny_lm

torch.set_num_threads(1)

PROMPTS = [
    "The mother tongue of Danielle Darrieux is",
    "Paris",
    "The official language of a person from Łódź or São Paulo in the Autonomous University is",
    "Rome is in",
    "Paris",
]
LIMITS = [4, 9, 6, 1, 3]


def said_by_oracle(lm, prompt, limit):
    return lm.tokenizer.decode(oracle.generate(lm, prompt, limit), skip_special_tokens=True).strip()


# -- what is said -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_batches_with_a_cache_say_what_the_oracle_says(architecture, bos):
    lm = tiny_lm(architecture, "float64", bos=bos)
    wanted = [Said(said_by_oracle(lm, p, n)) for p, n in zip(PROMPTS, LIMITS, strict=True)]
    assert generate(lm, PROMPTS, LIMITS) == wanted
    assert generate(lm, PROMPTS, LIMITS, tokens_per_batch=1) == wanted


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3", "gptj", "gpt2"])
def test_eager_attention_takes_padding_on_the_left(architecture):
    lm = tiny_lm(architecture, attention="eager", bos=True)
    wanted = [Said(said_by_oracle(lm, p, n)) for p, n in zip(PROMPTS, LIMITS, strict=True)]
    assert generate(lm, PROMPTS, LIMITS) == wanted


def test_a_text_ends_at_the_end_token():
    lm = tiny_lm("llama", "float64")
    new = oracle.generate(lm, PROMPTS[0], 6)
    lm.model.generation_config.eos_token_id = [2, new[3]]
    kept = new[: new.index(new[3])]
    (said,) = generate(lm, PROMPTS[:1], [6])
    assert said.text == lm.tokenizer.decode(kept).strip()


def test_padding_is_on_the_left_and_an_editor_learns_where_prompts_end():
    lm = tiny_lm("gpt2", bos=True)
    told, seen = [], []

    class Recorder:
        @contextlib.contextmanager
        def answering(self, last_prompt_columns):
            told.append(list(last_prompt_columns))
            yield

    handle = lm.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    generate(lm, PROMPTS, [2] * 5, editor=Recorder())
    handle.remove()
    assert len(told) == 1 and told[0] == [seen[0].shape[1] - 1] * 4  # equal prompts are one row
    ends = {lm.encode(p).ids[-1] for p in PROMPTS}
    assert set(seen[0][:, -1].tolist()) == ends
    assert seen[1].shape == (4, 1)


def test_a_model_without_numbers_says_so():
    lm = tiny_lm("gpt2")
    lm.mlp_out(1).weight.data[0, 0] = math.nan
    assert generate(lm, PROMPTS[:2], [3, 3]) == [Said("", finite=False)] * 2
    beams = generate(lm, PROMPTS[:2], [3, 3], settings=Generation(beams=2))
    assert beams == [Said("", finite=False)] * 2


def test_long_prompts_lose_their_beginning():
    lm = tiny_lm("gpt2", "float64", bos=True)
    prompt = "The mother tongue of Danielle Darrieux is French. " * 20 + "Paris is in"
    ids = lm.encode(prompt).ids
    kept = ids[:1] + ids[-(POSITIONS - 5 - 1) :]
    (said,) = generate(lm, [prompt], [5])
    for _ in range(5):
        kept.append(int(lm.model(torch.tensor([kept])).logits[0, -1].argmax()))
    assert said.text == lm.tokenizer.decode(kept[-5:]).strip()


def test_no_prompt_is_no_error():
    assert generate(tiny_lm("gpt2"), [""], [2])[0].finite
    assert generate(tiny_lm("gpt2"), [], []) == []


def test_beams_are_those_of_transformers():
    lm = tiny_lm("llama", bos=True)
    lm.model.generation_config.temperature = 0.3  # the model's own taste is no part of the protocol
    settings = Generation(max_new_tokens=6, beams=4, repetition_penalty=1.1)
    found = generate(lm, PROMPTS[:3], [6] * 3, settings=settings)
    options = {"num_beams": 4, "repetition_penalty": 1.1, "temperature": None, "top_p": None}
    assert [s.text for s in found] == [lm.generate(p, max_new_tokens=6, **options)[0].strip() for p in PROMPTS[:3]]
    assert lm.model.generation_config.temperature == 0.3


@pytest.mark.parametrize("settings", [Generation(beams=3), Generation(repetition_penalty=3.0), Generation(beams=2)])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_search_finds_for_a_prompt_what_it_finds_for_it_alone(architecture, settings):
    """Whatever else is in the batch, with whatever limit; padding on the left is no repetition."""
    lm = tiny_lm(architecture, "float64")
    limits = [4, 9, 6, 9, 3]  # PROMPTS[4] is PROMPTS[1] with another limit
    found = generate(lm, PROMPTS, limits, settings=settings)
    alone = [generate(lm, [p], [n], settings=settings)[0] for p, n in zip(PROMPTS, limits, strict=True)]
    assert found == alone
    options = {"num_beams": settings.beams, "repetition_penalty": settings.repetition_penalty}
    plain = [lm.generate(p, max_new_tokens=n, **options)[0] for p, n in zip(PROMPTS, limits, strict=True)]
    assert [said.text for said in found] == [text.strip() for text in plain]


def test_padding_is_not_penalised():
    """The padding's token may be one that the model would say: here the first that it says after a short prompt."""
    lm = tiny_lm("llama", "float64", bos=True)
    settings = Generation(repetition_penalty=1.000001)  # enough to tell a penalty from none, too little to matter
    (first,) = oracle.generate(lm, PROMPTS[1], 1)
    lm.tokenizer.pad_token_id = first
    strong = Generation(repetition_penalty=1000.0)
    short, long = generate(lm, [PROMPTS[1], PROMPTS[2]], [1, 1], settings=strong)
    assert short.text == generate(lm, [PROMPTS[1]], [1], settings=settings)[0].text
    assert short.text == lm.tokenizer.decode([first]).strip()


def test_limits():
    lm = tiny_lm("gpt2")
    tokens = len(lm.continuation("English and Russian"))
    assert Generation().limit(lm, "Paris", "English and Russian") == tokens + MARGIN
    assert Generation(max_new_tokens=tokens).limit(lm, "Paris", "English and Russian") == tokens
    assert Generation(max_new_tokens=tokens - 1).limit(lm, "Paris", "English and Russian") is None
    assert Generation().limit(lm, "Paris", "English and Russian " * MOST) is None
    room = POSITIONS - len(lm.encode("Paris").ids)
    assert Generation(max_new_tokens=room).limit(lm, "Paris", "English") == room
    assert Generation(max_new_tokens=room + 1).limit(lm, "Paris", "English") is None


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"beams": 0}, {"repetition_penalty": 0.0}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Generation(**wrong)


# -- what counts as the same ------------------------------------------------------------------------------------------


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
        ("Amazon.COM. It", "Amazon.COM", "Amazon.COM."),
        ("巴黎。法国的首都", "巴黎", "巴黎。"),
        ("पेरिस।फ्रांस", "पेरिस", "पेरिस।"),
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
