"""Methods on a model whose device has no float64, as Apple's GPUs: simulated, and compared with the CPU."""

import pytest

from editbench.model import devices
from editbench.model.likelihood import Query, score_targets
from tests.small_runs import PROMPTS, REQUESTS, SETTINGS, editor_of
from tests.tiny_models import tiny_lm
from tests.without_float64 import TYPE, on_device


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setattr(devices, "WITHOUT_FLOAT64", {TYPE})


FAST = ("rome", "memit", "nse", "scen")


@pytest.mark.parametrize("method", [m if m in FAST else pytest.param(m, marks=pytest.mark.slow) for m in SETTINGS])
def test_edits_on_a_device_without_float64_are_the_cpus(method):
    answers = []
    for put in (lambda lm: lm, on_device):
        lm = put(tiny_lm("llama"))
        editor = editor_of(method, lm)
        result = editor.edit(REQUESTS)
        assert result.applied == ["a", "b", "c", "d"]
        queries = [Query(prompt, (" English", " Rome")) for prompt in PROMPTS]
        found = score_targets(lm, queries, editor=editor)
        answers.append([score.nll for scores in found for score in scores])
        editor.ledger.rollback()
    assert answers[1] == pytest.approx(answers[0], rel=1e-4)
