"""Causal tracing beside a plain loop, one corrupted row at a time, and in cases that can be checked by hand."""

from itertools import product

import pytest
import torch

from editbench import EditRequest
from editbench.layer_search import causal_tracing
from editbench.layer_search.causal_tracing import (
    HIDDEN,
    Prompt,
    Restoration,
    TraceConfig,
    around,
    clean_run,
    draw_noise,
    probabilities,
    trace,
)
from tests.layer_search.plain_trace import CASES, NOTHING, SETTINGS, knowing, plain_run, plain_trace
from tests.tiny_models import LAYERS, TINY_ARCHITECTURES, tiny_lm


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_a_trace_agrees_with_one_row_at_a_time(architecture):
    lm = tiny_lm(architecture, bos=architecture != "gpt2")
    requests = knowing(lm)[1:]
    found, plain = trace(lm, requests, settings=SETTINGS), plain_trace(lm, requests, SETTINGS)
    assert found.records == ("r1", "r2")
    assert found.clean["mean"] == pytest.approx(plain["clean"], abs=1e-5)
    assert found.corrupted["mean"] == pytest.approx(plain["corrupted"], abs=1e-5)
    assert found.total["mean"] == pytest.approx(plain["clean"] - plain["corrupted"], abs=1e-5)
    for name, layer in product(found.indirect, range(LAYERS)):
        assert found.indirect[name][layer]["mean"] == pytest.approx(plain[name, layer], abs=1e-5)
    assert abs(found.total["mean"]) > 1e-3  # something happened


def test_a_seed_gives_the_same_trace_whatever_runs_together_and_another_seed_another(monkeypatch):
    lm = tiny_lm("llama", "float64")
    requests = knowing(lm)
    first = trace(lm, requests, settings=SETTINGS)
    assert trace(lm, requests, settings=SETTINGS) == first
    alone = trace(lm, requests[1:2], settings=TraceConfig(samples=2, window=2, noise=1.0))
    other = trace(lm, requests, settings=TraceConfig(samples=2, window=2, seed=1))
    assert other.corrupted["mean"] != pytest.approx(first.corrupted["mean"], rel=1e-6)
    assert alone.deviation != first.deviation
    monkeypatch.setitem(causal_tracing.TOKENS_AT_ONCE, "cpu", 1)  # one restoration at a time
    parts = trace(lm, requests, settings=SETTINGS)
    for name in first.indirect:
        means = [[m["mean"] for m in found.indirect[name]] for found in (first, parts)]
        assert means[0] == pytest.approx(means[1], abs=1e-12)


def test_chosen_layers_and_intervals():
    lm = tiny_lm("gpt2")
    requests = knowing(lm)
    whole, some = trace(lm, requests, settings=SETTINGS), trace(lm, requests, [2, 0], SETTINGS)
    assert some.layers == (2, 0)
    for name, values in some.indirect.items():
        assert [m["mean"] for m in values] == pytest.approx([whole.indirect[name][i]["mean"] for i in (2, 0)], abs=1e-6)
    measure = whole.total
    assert measure["n"] == 3 and measure["low"] < measure["mean"] < measure["high"]


def test_records_that_cannot_be_traced_are_left_out_with_the_reason():
    lm = tiny_lm("gpt2")
    requests = knowing(lm)
    wrong = EditRequest("wrong", *CASES[0], "0", str((int(requests[0].target_true) + 1) % 100))
    odd = [wrong, EditRequest("bare", "Toko plays", None, "0", "1"), EditRequest("open", *CASES[1], "0")]
    odd.append(EditRequest("long", "Toko plays " * 100, "Toko", "0", "1"))
    found = trace(lm, [*requests, *odd], settings=SETTINGS)
    assert found.left_out == {
        "wrong": "the model does not know the true answer",
        "bare": "the record has no subject",
        "open": "the record has no true answer",
        "long": "the prompt is too long for the model",
    }
    with pytest.raises(ValueError, match=r"none of 4 records can be traced \(1: the model does not know"):
        trace(lm, odd, settings=SETTINGS)


def test_windows():
    assert list(around(5, 10, 48)) == list(range(0, 10))
    assert list(around(20, 10, 48)) == list(range(15, 25))
    assert list(around(47, 10, 48)) == list(range(42, 48))
    assert list(around(3, 1, 4)) == [3]
    assert list(around(1, 3, 4)) == [0, 1, 2]


@pytest.mark.parametrize("setting", [{"samples": 0}, {"noise": 0.0}, {"window": 0}])
def test_settings_out_of_range(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        TraceConfig(**setting)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
def test_restoring_everything_gives_the_clean_answer_and_restoring_nothing_the_corrupted_one(architecture):
    lm = tiny_lm(architecture, "float64", bos=True)
    prompt = Prompt.of(lm, knowing(lm)[0])
    clean, noise = clean_run(lm, prompt), draw_noise(lm, prompt, SETTINGS)
    end, subject = len(prompt.ids) - 1, prompt.subject[-1]
    last_layer = range(LAYERS - 1, LAYERS)
    restorations = [Restoration(HIDDEN, end, last_layer), Restoration(HIDDEN, subject, last_layer), NOTHING]
    whole, useless, nothing = probabilities(lm, prompt, clean, noise, restorations)
    assert torch.allclose(whole, torch.full_like(whole, clean.probability), rtol=1e-12)
    corrupted = [plain_run(lm, prompt, one, None, None, None, ())[0] for one in noise]
    assert torch.allclose(nothing, torch.tensor(corrupted, dtype=torch.float64), rtol=1e-12)
    assert torch.allclose(useless, nothing, rtol=1e-12)  # nobody looks at the subject any more
    still = probabilities(lm, prompt, clean, 0 * noise, restorations)
    assert torch.allclose(still, torch.full_like(still, clean.probability), rtol=1e-12)  # no noise, nothing to restore


def test_the_subjects_tokens_are_found_by_characters():
    lm = tiny_lm("llama", bos=True)
    prompt = Prompt.of(lm, knowing(lm)[0])
    text = lm.tokenizer.decode([prompt.ids[i] for i in prompt.subject])
    assert text.strip() == "Danielle Darrieux"
    assert list(prompt.subject) == list(range(prompt.subject[0], prompt.subject[-1] + 1))
