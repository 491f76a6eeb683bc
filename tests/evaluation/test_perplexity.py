"""Perplexity by hand and against the oracle."""

import math
from dataclasses import replace

import pytest

from editbench.evaluation.perplexity import CLIP, COUNTS, PERPLEXITIES, mean_of_three, summarise, text_scores
from editbench.model.likelihood import NOT_A_NUMBER, TargetScore
from tests.evaluation.examples import PASSAGES
from tests.oracles import evaluation as oracle
from tests.tiny_models import tiny_lm

NAN, INF = math.nan, math.inf
BROKEN = TargetScore(NAN, (False,), (NOT_A_NUMBER,))
NOTHING = TargetScore(NAN, (), ())


def test_perplexity_by_hand():
    answers = [TargetScore(1.0, (True,) * 3, (1, 2, 3)), TargetScore(2.0, (True,), (1,)), NOTHING]
    found = summarise(answers)
    assert found == {
        "perplexity": pytest.approx(math.exp(5 / 4)),
        "perplexity_mean": pytest.approx((math.exp(1) + math.exp(2)) / 2),
        "perplexity_median": pytest.approx((math.exp(1) + math.exp(2)) / 2),
        "perplexity_clipped": pytest.approx((math.exp(1) + math.exp(2)) / 2),
        "texts": 2,
        "too_short": 1,
        "tokens": 4,
        "nonfinite": 0,
    }
    broken = summarise([*answers, BROKEN])
    assert math.isnan(broken["perplexity"]) and math.isnan(broken["perplexity_mean"]) and broken["nonfinite"] == 1
    assert math.isnan(broken["perplexity_clipped"]) and math.isnan(summarise([])["perplexity_clipped"])
    assert math.isnan(broken["perplexity_median"]) and math.isnan(summarise([])["perplexity_median"])
    three = [TargetScore(n, (True,), (1,)) for n in (1.0, 2.0, 9.0)]
    assert summarise(three)["perplexity_median"] == pytest.approx(math.exp(2))
    assert summarise(three)["perplexity_clipped"] == pytest.approx((math.exp(1) + math.exp(2) + CLIP) / 3)
    endless = summarise([*three, TargetScore(INF, (False,), (NOT_A_NUMBER,))])
    assert endless["perplexity_mean"] == INF
    assert endless["perplexity_clipped"] == pytest.approx((math.exp(1) + math.exp(2) + 2 * CLIP) / 4)
    answered = [replace(one, routed=routed) for one, routed in zip(three, (True, False, False), strict=True)]
    assert summarise(answered)["routed"] == pytest.approx(1 / 3)
    assert summarise([TargetScore(1e4, (False,), (1,))])["perplexity"] == INF
    assert math.isnan(summarise([])["perplexity"]) and summarise([])["texts"] == 0


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("max_tokens", [None, 4])
def test_perplexity_equals_the_oracle(bos, max_tokens):
    lm = tiny_lm("llama", bos=bos)
    passages = [p for several in PASSAGES.values() for p in several]
    found = text_scores(lm, passages, max_tokens=max_tokens)
    expected = oracle.perplexity(lm, passages, max_tokens)
    assert (found["perplexity"], found["perplexity_mean"]) == pytest.approx(expected, rel=1e-5)
    if max_tokens:
        assert found["tokens"] == 3 + 3 + 4  # the first of a text without a prompt is not scored


def test_the_mean_of_three_sets_of_texts():
    three = {
        name: dict.fromkeys((*PERPLEXITIES, *COUNTS), by) for name, by in (("edited", 2), ("accurate", 3), ("plain", 7))
    }
    assert mean_of_three(three) == {**dict.fromkeys(PERPLEXITIES, 4), **dict.fromkeys(COUNTS, 12)}
    del three["plain"]
    assert mean_of_three(three) is None
