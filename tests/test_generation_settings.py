"""The settings that came with a model decide when a text ends, and nothing else of what is generated from it."""

import json
import warnings

import pytest
import torch

from editbench import resources
from editbench.locate_then_edit.templates import generate_templates
from editbench.model.architectures import ArchitectureError
from editbench.model.batching import PaddedBatch
from editbench.model.generation import Generation, generate
from editbench.model.language_model import LanguageModel
from editbench.model.loading import cache_keyword
from editbench.model.partial_forward import run_layers
from editbench.model.prefix_cache import PrefixCache, recording_cache
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm

PROMPTS = ["The mother tongue of Danielle Darrieux is", "Paris"]
PLAN = [("", 4, 3), ("The", 6, 2)]
OWN = {  # generation_config.json, one setting or one that has a part in the others
    "temperature": {"do_sample": True, "temperature": 0.05},
    "top_k": {"do_sample": True, "top_k": 1},
    "top_p": {"do_sample": True, "top_p": 0.01},
    "min_p": {"do_sample": True, "min_p": 0.9},
    "typical_p": {"do_sample": True, "typical_p": 0.01},
    "epsilon_cutoff": {"do_sample": True, "epsilon_cutoff": 0.5},
    "eta_cutoff": {"do_sample": True, "eta_cutoff": 0.5},
    "do_sample": {"do_sample": True},
    "num_beams": {"num_beams": 4, "length_penalty": -5.0, "early_stopping": True},
    "num_return_sequences": {"num_beams": 4, "num_return_sequences": 4},
    "repetition_penalty": {"repetition_penalty": 5.0},
    "encoder_repetition_penalty": {"encoder_repetition_penalty": 5.0},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 1},
    "bad_words_ids": {"bad_words_ids": [[i] for i in range(3, 100)]},
    "sequence_bias": {"sequence_bias": [[[i], -9.0] for i in range(3, 100)]},
    "suppress_tokens": {"suppress_tokens": list(range(3, 100))},
    "begin_suppress_tokens": {"begin_suppress_tokens": list(range(3, 200))},
    "forced_bos_token_id": {"forced_bos_token_id": 7},
    "forced_eos_token_id": {"forced_eos_token_id": 8},
    "exponential_decay_length_penalty": {"exponential_decay_length_penalty": [1, 5.0]},
    "max_length": {"max_length": 3},
    "max_new_tokens": {"max_new_tokens": 1},
    "max_time": {"max_time": 1e-9},
    "min_length": {"min_length": 60},
    "min_new_tokens": {"min_new_tokens": 60},
    "stop_strings": {"stop_strings": ["a", "e"]},
    "guidance_scale": {"guidance_scale": 9.0},
    "watermarking_config": {"watermarking_config": {"bias": 9.0, "greenlist_ratio": 0.1}},
    "prompt_lookup_num_tokens": {"prompt_lookup_num_tokens": 2},
    "cache_implementation": {"cache_implementation": "quantized"},
    "return_dict_in_generate": {"return_dict_in_generate": True, "output_scores": True},
    "token_healing": {"token_healing": True},
}
OWN["all"] = {name: value for own in OWN.values() for name, value in own.items()}
OWN["all"]["forced_bos_token_id"] = 300  # transformers loads no model that forces what it suppresses
OWN["all"]["forced_eos_token_id"] = 301


@pytest.fixture(autouse=True, scope="module")
def few_samples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources, "BATCH", 6)
        patch.setattr(resources, "LENGTH", 8)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model without settings of its own, and with those of ``settings``, in a folder."""
    path, lm = tmp_path_factory.mktemp("model"), tiny_lm("llama", bos=True)
    lm.model.save_pretrained(path)
    lm.tokenizer.save_pretrained(path)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}

    def with_settings(settings):
        (path / "generation_config.json").write_text(json.dumps({**ids, **settings}))
        return LanguageModel.load(path, device="cpu")

    return with_settings


def texts_of(lm):
    """All that is generated from a model, by whatever asks for it."""
    searches = [Generation(max_new_tokens=6, beams=3), Generation(max_new_tokens=6, repetition_penalty=1.5)]
    drawn = Generation(max_new_tokens=6, top_k=5)
    torch.manual_seed(0)
    return {
        "templates": generate_templates(lm, PLAN, 0),
        "samples": resources.sample_texts(lm, 1, 0),
        "lm": lm.generate(PROMPTS, max_new_tokens=6),
        "sampling": lm.generate(PROMPTS, max_new_tokens=6, do_sample=True, temperature=0.8),
        "beams": lm.generate(PROMPTS, max_new_tokens=6, num_beams=2),
        **{str(s): generate(lm, PROMPTS, [6, 6], settings=s) for s in [Generation(), drawn, *searches]},
    }


@pytest.fixture(scope="module")
def plain(folder):
    return texts_of(folder({}))


@pytest.mark.parametrize("name", OWN)
def test_a_models_own_settings_change_nothing(name, folder, plain):
    lm = folder(OWN[name])
    before = lm.model.generation_config.to_dict()
    assert set(OWN[name]) <= set(before)
    assert texts_of(lm) == plain
    assert lm.model.generation_config.to_dict() == before


def test_they_would(folder):
    """Left to transformers, each of the settings above changes what is generated, or stops it."""
    calls = [([1], {}), ([1, 50, 60, 70], {"do_sample": True, "eos_token_id": list(range(340, 400))})]

    def by_transformers(lm):
        found = []
        for prompt, options in calls:
            ids = torch.tensor([prompt] * 16)
            torch.manual_seed(0)
            try:
                found.append(lm.model.generate(ids, attention_mask=torch.ones_like(ids), **options).tolist())
            except (ValueError, ImportError, TypeError, AttributeError) as error:
                found.append(type(error).__name__)
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lengths that exclude each other
        usual = by_transformers(folder({}))
        assert [name for name in OWN if by_transformers(folder(OWN[name])) == usual] == []


def test_what_a_call_says_wins(folder, plain):
    lm, hostile = folder({}), folder(OWN["all"])
    options = {"repetition_penalty": 3.0, "min_new_tokens": 6, "suppress_tokens": [5, 6]}
    found = hostile.generate(PROMPTS, max_new_tokens=6, **options)
    assert found == lm.generate(PROMPTS, max_new_tokens=6, **options) != plain["lm"]
    config = type(lm.model.generation_config)(num_beams=2)
    assert hostile.generate(PROMPTS, max_new_tokens=6, generation_config=config) == plain["beams"]


def test_the_models_own_end_tokens_end_a_text(folder):
    lm = folder({})
    first = lm.tokenizer.encode(lm.generate("Paris", max_new_tokens=6)[0], add_special_tokens=False)[0]
    ended = folder({"eos_token_id": [2, first]})
    assert ended.end_ids == {2, first}
    word = lm.tokenizer.decode([first])
    assert ended.generate("Paris", max_new_tokens=6) == [word]
    lm.tokenizer.eos_token = "<s>"
    assert lm.end_ids == {1, 2}


# -- the key-value cache ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_no_architecture_finds_its_cache_keyword_deprecated(architecture, caplog):
    lm = tiny_lm(architecture, bos=True)
    rows = [lm.encode(p).ids for p in PROMPTS]
    columns = PaddedBatch.pad(rows, [len(r) - 1 for r in rows], lm.pad_id, lm.device)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = run_layers(lm, columns)
        recorded = recording_cache(lm)
        run_layers(lm, columns.upto(3), cache=recorded)
        rest = run_layers(lm, columns, cache=PrefixCache.of(recorded), start=3)
        generate(lm, PROMPTS, [3, 3])
    assert torch.allclose(rest[0], whole[0, 3:], atol=1e-5)
    assert not caplog.records


@pytest.mark.parametrize("given", ["recording", "prefix"])
def test_a_cache_that_the_model_swallows_is_noticed(given, monkeypatch):
    lm = tiny_lm("llama", bos=True)
    columns = PaddedBatch.pad([lm.encode(PROMPTS[0]).ids], [0], lm.pad_id, lm.device)
    cache = recording_cache(lm)
    with torch.no_grad():
        run_layers(lm, columns.upto(2), cache=cache)
        monkeypatch.setattr(lm, "_cache_keyword", "key_values")
        with pytest.raises(AssertionError, match="did not use the cache"):
            if given == "recording":
                run_layers(lm, columns, cache=recording_cache(lm))
            else:
                run_layers(lm, columns, cache=PrefixCache.of(cache), start=2)
        with pytest.raises(AssertionError, match="did not keep"):
            generate(lm, PROMPTS, [2, 2])


def test_a_decoder_without_a_known_cache_is_refused_by_name():
    class Decoder(torch.nn.Module):
        def forward(self, input_ids, memory=None, **kwargs):
            return input_ids

    with pytest.raises(ArchitectureError, match=r"Decoder.forward takes no key-value cache .*takes self, input_ids"):
        cache_keyword(Decoder)
