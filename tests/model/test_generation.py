"""Generated answers against the plain way, with limits, searches, draws and an editor's text."""

import contextlib
import math

import pytest
import torch

from editbench.model.generation import MARGIN, MAX_NEW_TOKENS, Generated, Generation, generate
from tests.evaluation.examples import Bystander, PromptEditor
from tests.oracles import evaluation as oracle
from tests.tiny_models import POSITIONS, TINY_ARCHITECTURES, tiny_lm

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


# -- generated texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_batches_with_a_cache_say_what_the_oracle_says(architecture, bos):
    lm = tiny_lm(architecture, "float64", bos=bos)
    wanted = [Generated(said_by_oracle(lm, p, n)) for p, n in zip(PROMPTS, LIMITS, strict=True)]
    assert generate(lm, PROMPTS, LIMITS) == wanted
    assert generate(lm, PROMPTS, LIMITS, tokens_per_batch=1) == wanted


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3", "gptj", "gpt2"])
def test_eager_attention_takes_padding_on_the_left(architecture):
    lm = tiny_lm(architecture, attention="eager", bos=True)
    wanted = [Generated(said_by_oracle(lm, p, n)) for p, n in zip(PROMPTS, LIMITS, strict=True)]
    assert generate(lm, PROMPTS, LIMITS) == wanted


def test_a_text_ends_at_the_end_token():
    lm = tiny_lm("llama", "float64")
    new = oracle.generate(lm, PROMPTS[0], 6)
    lm.model.generation_config.eos_token_id = [2, new[3]]
    kept = new[: new.index(new[3])]
    (found,) = generate(lm, PROMPTS[:1], [6])
    assert found.text == lm.tokenizer.decode(kept).strip()


def test_padding_is_on_the_left_and_an_editor_learns_where_prompts_end():
    lm = tiny_lm("gpt2", bos=True)
    given, seen = [], []

    class Recorder:
        asked = staticmethod(str)

        answers_by_row = True

        @contextlib.contextmanager
        def answering(self, last_prompt_columns):
            given.append(list(last_prompt_columns))
            yield

    handle = lm.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    generate(lm, PROMPTS, [2] * 5, editor=Recorder())
    handle.remove()
    assert len(given) == 1 and given[0] == [seen[0].shape[1] - 1] * 4  # equal prompts are one row
    ends = {lm.encode(p).ids[-1] for p in PROMPTS}
    assert set(seen[0][:, -1].tolist()) == ends
    assert seen[1].shape == (4, 1)


def test_a_model_without_numbers_says_so():
    lm = tiny_lm("gpt2")
    lm.mlp_out(1).weight.data[0, 0] = math.nan
    assert generate(lm, PROMPTS[:2], [3, 3]) == [Generated("", finite=False)] * 2
    beams = generate(lm, PROMPTS[:2], [3, 3], settings=Generation(beams=2))
    assert beams == [Generated("", finite=False)] * 2


def test_long_prompts_lose_their_beginning():
    lm = tiny_lm("gpt2", "float64", bos=True)
    prompt = "The mother tongue of Danielle Darrieux is French. " * 20 + "Paris is in"
    ids = lm.encode(prompt).ids
    kept = ids[:1] + ids[-(POSITIONS - 5 - 1) :]
    (found,) = generate(lm, [prompt], [5])
    for _ in range(5):
        kept.append(int(lm.model(torch.tensor([kept])).logits[0, -1].argmax()))
    assert found.text == lm.tokenizer.decode(kept[-5:]).strip()


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
    assert [one.text for one in found] == [text.strip() for text in plain]


def test_padding_is_not_penalised():
    """The padding's token may be one that the model would say: here the first that it says after a short prompt."""
    lm = tiny_lm("llama", "float64", bos=True)
    settings = Generation(repetition_penalty=1.000001)  # a penalty, not none, too little to matter
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
    assert Generation().limit(lm, "Paris", "English and Russian " * MAX_NEW_TOKENS) is None
    left = POSITIONS - len(lm.encode("Paris").ids)
    assert Generation(max_new_tokens=left).limit(lm, "Paris", "English") == left
    assert Generation(max_new_tokens=left + 1).limit(lm, "Paris", "English") is None


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"beams": 0}, {"repetition_penalty": 0.0}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Generation(**wrong)


@pytest.mark.parametrize("settings", [Generation(), Generation(top_k=5, seed=3), Generation(beams=2)])
def test_answers_are_generated_behind_the_editors_text(settings):
    lm, editor = tiny_lm("llama", "float64", bos=True), PromptEditor()
    found = generate(lm, PROMPTS, LIMITS, settings=settings, editor=editor)
    assert found == generate(lm, [editor.asked(prompt) for prompt in PROMPTS], LIMITS, settings=settings)
    assert all(one.whole.startswith(prompt) for one, prompt in zip(found, PROMPTS, strict=True))  # the plain prompt
    assert generate(lm, PROMPTS, LIMITS, settings=settings, editor=Bystander()) == generate(
        lm, PROMPTS, LIMITS, settings=settings
    )
