"""Metrics by hand, their facts, and metrics of other packages."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

from editbench.evaluation.judge.prompt import Verdict
from editbench.evaluation.metrics import REGISTERED, ProbeAnswers, facts, get_metric, list_metrics, metric
from editbench.evaluation.perplexity import summarise
from editbench.model.generation import Generated, Generation
from editbench.model.likelihood import NOT_A_NUMBER, TargetScore
from editbench.plugins import METRICS
from editbench.records import (
    Route,
)

GREEDY = Generation()
NAN, INF = math.nan, math.inf
RIGHT = TargetScore(0.5, (True, True), (4, 7))
HALF = TargetScore(1.5, (True, False), (4, 9))
BROKEN = TargetScore(NAN, (False,), (NOT_A_NUMBER,))
NOTHING = TargetScore(NAN, (), ())
ZERO = TargetScore(0.5, (True,), (0,))  # a token like others


def judged(text, right):
    return ProbeAnswers(RIGHT, gold="English", generated=Generated(text), verdict=Verdict(right))


@pytest.mark.parametrize(
    ("name", "answers", "expected"),
    [
        ("token_accuracy", ProbeAnswers(RIGHT), 1.0),
        ("token_accuracy", ProbeAnswers(HALF), 0.5),
        ("token_accuracy", ProbeAnswers(BROKEN), 0.0),
        ("token_accuracy", ProbeAnswers(NOTHING), None),
        ("exact_match", ProbeAnswers(RIGHT), 1.0),
        ("exact_match", ProbeAnswers(HALF), 0.0),
        ("exact_match", ProbeAnswers(NOTHING), None),
        ("nll_contrast", ProbeAnswers(RIGHT, HALF), 1.0),
        ("nll_contrast", ProbeAnswers(HALF, RIGHT), 0.0),
        ("nll_contrast", ProbeAnswers(RIGHT, RIGHT), 0.0),
        ("nll_contrast", ProbeAnswers(BROKEN, RIGHT), 0.0),
        ("nll_contrast", ProbeAnswers(RIGHT, BROKEN), 0.0),
        ("nll_contrast", ProbeAnswers(RIGHT), None),
        ("nll_contrast", ProbeAnswers(RIGHT, NOTHING), None),
        ("nll_difference", ProbeAnswers(RIGHT, HALF), math.exp(-0.5) - math.exp(-1.5)),
        ("nll_difference", ProbeAnswers(RIGHT, TargetScore(INF, (False,), (3,))), math.exp(-0.5)),
        ("nll_difference", ProbeAnswers(BROKEN, RIGHT), NAN),
        ("nll_difference", ProbeAnswers(RIGHT), None),
        ("agreement", ProbeAnswers(HALF, before=HALF), 1.0),
        ("agreement", ProbeAnswers(HALF, before=RIGHT), 0.0),
        ("agreement", ProbeAnswers(BROKEN, before=BROKEN), 0.0),
        ("agreement", ProbeAnswers(RIGHT), None),
        ("agreement_tokens", ProbeAnswers(HALF, before=RIGHT), 0.5),
        ("agreement_tokens", ProbeAnswers(NOTHING, before=NOTHING), None),
        ("agreement_tokens", ProbeAnswers(ZERO, before=ZERO), 1.0),
        ("generation", ProbeAnswers(RIGHT, gold="English", generated=Generated("the English. He")), 1.0),
        ("judge", ProbeAnswers(RIGHT), None),
        ("judge", ProbeAnswers(RIGHT, verdict=Verdict(True)), 1.0),
        ("judge", ProbeAnswers(RIGHT, verdict=Verdict(False)), 0.0),
        ("judge", ProbeAnswers(RIGHT, verdict=Verdict(None)), None),
        ("judge_unclear", ProbeAnswers(RIGHT), None),
        ("judge_unclear", ProbeAnswers(RIGHT, verdict=Verdict(None)), 1.0),
        ("judge_unclear", ProbeAnswers(RIGHT, verdict=Verdict(False)), 0.0),
        ("judge_agreement", judged("English", None), None),
        ("judge_agreement", judged("English", True), 1.0),
        ("judge_agreement", judged("British", True), 0.0),
        ("judge_agreement", judged("British", False), 1.0),
        ("generation", ProbeAnswers(RIGHT, gold="English", generated=Generated("English and he")), 0.0),
        ("generation", ProbeAnswers(RIGHT, gold="English", generated=Generated("")), 0.0),
        ("generation", ProbeAnswers(RIGHT, gold="English", generated=Generated("English", finite=False)), 0.0),
        (
            "generation",
            ProbeAnswers(RIGHT, gold="English and Russian", generated=Generated("English and Russian\nHe")),
            1.0,
        ),
        ("generation", ProbeAnswers(RIGHT, generated=Generated("English")), None),
        ("generation", ProbeAnswers(RIGHT, gold="English"), None),
        ("generation_exact", ProbeAnswers(RIGHT, gold="English", generated=Generated(" English ")), 1.0),
        ("generation_exact", ProbeAnswers(RIGHT, gold="English", generated=Generated("english")), 0.0),
        ("generation_exact", ProbeAnswers(RIGHT, gold="English", generated=Generated("English.")), 0.0),
        ("generation_exact", ProbeAnswers(RIGHT, gold="English", generated=Generated("English", finite=False)), 0.0),
        ("generation_exact", ProbeAnswers(RIGHT, gold="English"), None),
        ("generation_contains", ProbeAnswers(RIGHT, gold="English", generated=Generated("speaks English and")), 1.0),
        ("generation_contains", ProbeAnswers(RIGHT, gold="English", generated=Generated("Englishman")), 0.0),
        ("generation_contains", ProbeAnswers(RIGHT, gold="English", generated=Generated("English", finite=False)), 0.0),
        ("generation_contains", ProbeAnswers(RIGHT, gold="English"), None),
        (
            "generation_f1",
            ProbeAnswers(RIGHT, gold="the English of old", generated=Generated("old English. More")),
            2 / 3,
        ),
        ("generation_f1", ProbeAnswers(RIGHT, gold="New New York", generated=Generated("New York, New York")), 6 / 7),
        ("generation_f1", ProbeAnswers(RIGHT, gold="English", generated=Generated("French")), 0.0),
        ("generation_f1", ProbeAnswers(RIGHT, gold="English", generated=Generated("")), 0.0),
        ("generation_f1", ProbeAnswers(RIGHT, gold="English", generated=Generated("English", finite=False)), 0.0),
        ("generation_f1", ProbeAnswers(RIGHT, gold="English"), None),
        (
            "generation_agreement",
            ProbeAnswers(RIGHT, generated=Generated("A dog. B"), generated_before=Generated("dog. C")),
            1.0,
        ),
        (
            "generation_agreement",
            ProbeAnswers(RIGHT, generated=Generated("dog"), generated_before=Generated("cat")),
            0.0,
        ),
        (
            "generation_agreement",
            ProbeAnswers(RIGHT, generated=Generated("", False), generated_before=Generated("")),
            0.0,
        ),
        ("generation_agreement", ProbeAnswers(RIGHT, gold="dog", generated=Generated("dog")), None),
        ("activation", ProbeAnswers(RIGHT), None),
        ("activation", ProbeAnswers(RIGHT, route=Route(None, 0.25)), 0.25),
        ("routing", ProbeAnswers(RIGHT), None),
        ("routing", ProbeAnswers(RIGHT, route=Route("a", 0.9), edit="a"), 1.0),
        ("routing", ProbeAnswers(RIGHT, route=Route("b", 0.9), edit="a"), 0.0),
        ("routing", ProbeAnswers(RIGHT, route=Route(None, 0.2), edit="a"), 0.0),
        ("routing", ProbeAnswers(RIGHT, route=Route(None, 0.2)), 1.0),
        ("routing", ProbeAnswers(RIGHT, route=Route("a", 0.9)), 0.0),
        ("nonfinite", ProbeAnswers(RIGHT, HALF), 0.0),
        ("nonfinite", ProbeAnswers(BROKEN), 1.0),
        ("nonfinite", ProbeAnswers(RIGHT, TargetScore(INF, (False,), (3,))), 1.0),
        ("nonfinite", ProbeAnswers(RIGHT.first()), 0.0),
        ("nonfinite", ProbeAnswers(NOTHING), None),
    ],
)
def test_metrics_by_hand(name, answers, expected):
    found = get_metric(name).score(answers)
    assert found == (expected if expected is None else pytest.approx(expected, nan_ok=True))


def test_metrics_say_what_they_are():
    for one in list_metrics():
        assert one.version >= 1 and one.description and get_metric(one.name) is one
    with pytest.raises(ValueError, match="unknown metric 'exactmatch'; did you mean 'exact_match'"):
        get_metric("exactmatch")


def test_metrics_say_whether_they_are_shares():
    """Of the numbers in the table above, those outside [0, 1] belong to metrics that declare no share."""
    shares = {one.name for one in list_metrics() if one.share}
    assert {one.name for one in list_metrics()} - shares == {"nll_difference", "activation", "ngram_entropy"}
    (table,) = (mark.args[1] for mark in test_metrics_by_hand.pytestmark)
    assert all(0 <= number <= 1 for name, _, number in table if name in shares and number is not None)


@pytest.mark.slow
def test_metrics_are_listed_without_torch():
    code = (
        "import sys; from editbench.evaluation.metrics import list_metrics; list_metrics(); "
        "assert not {'torch', 'pandas', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- facts ------------------------------------------------------------------------------------------------------------


def test_facts_are_those_of_the_metrics_and_of_the_model_as_a_whole():
    found = facts(["exact_match", "activation"], ability=["pocket", "sst2"])
    assert found["exact_match"] == {
        "title": "exact match",
        "version": 1,
        "range": (0.0, 1.0),
        "higher_is_better": True,
        "digits": 3,
        "seeds": "mean",
        "tolerance": 0.02,
        "source": "De Cao et al. 2021 (KnowledgeEditor); is_correct on CounterFact in MEMIT's evaluation",
    }
    assert found["activation"]["range"] is None and found["activation"]["higher_is_better"] is None
    assert "generation" not in found and found["perplexity.perplexity"]["higher_is_better"] is False
    assert found["ability.pocket.recall"]["range"] == found["ability.sst2.acc"]["range"] == (0.0, 1.0)
    assert set(facts([])) == {
        *(f"perplexity.{name}" for name in summarise([replace(RIGHT, routed=True)])),
        *("drift.hidden_change", "drift.hidden_shift", "drift.weight_change"),
        *("unrelated.questions", "unrelated.left_out"),
    }
    assert json.loads(json.dumps(found))["exact_match"]["range"] == [0, 1]


def test_every_number_says_what_it_is():
    for name, fact in facts([one.name for one in list_metrics()], ability=["pocket", "mmlu"]).items():
        assert fact["title"] and fact["source"] and fact["version"] >= 1 and fact["digits"] >= 0, name
        assert fact["seeds"] in ("mean", "sum", "max", "list"), name
        assert fact["range"] is None or fact["range"][0] < fact["range"][1], name


def test_titles_differ():
    titles = [one.facts["title"] for one in list_metrics()]
    assert len(set(titles)) == len(titles)


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Another package's metrics, found by their entry points."""

    def install(code, *names):
        (tmp_path / "others_metrics.py").write_text(f"from editbench.evaluation.metrics import metric\n{code}")
        monkeypatch.syspath_prepend(tmp_path)
        points = {name: EntryPoint(name, f"others_metrics:{name}", METRICS) for name in names}
        monkeypatch.setattr("editbench.plugins.entry_points", lambda group: points)
        monkeypatch.setattr("editbench.evaluation.metrics.REGISTERED", dict(REGISTERED))

    yield install
    sys.modules.pop("others_metrics", None)


THEIRS = """
@metric(version=3, title="length", range=None, higher_is_better=None, digits=1, source="nobody")
def length(probe):
    '''Target tokens: n.'''
    return float(probe.target.tokens)
"""


def test_another_packages_metric_is_found_by_name(package):
    package(THEIRS, "length")
    assert "others_metrics" not in sys.modules
    assert get_metric("exact_match").name == "exact_match" and "others_metrics" not in sys.modules
    assert get_metric("length").score(ProbeAnswers(HALF)) == 2.0 and get_metric("length").description
    assert "length" in [one.name for one in list_metrics()] and get_metric("length").facts["range"] is None
    assert facts(["length"])["length"]["digits"] == 1
    with pytest.raises(ValueError, match="unknown metric 'lenght'; did you mean 'length'"):
        get_metric("lenght")


def test_another_packages_metric_may_not_replace_one_or_have_another_name(package):
    package(THEIRS.replace("def length", "def exact_match"), "longest")
    with pytest.raises(ValueError, match="'exact_match' is defined by editbench.evaluation.metrics and by others_metr"):
        get_metric("longest")
    package(THEIRS, "longest")
    sys.modules.pop("others_metrics", None)
    with pytest.raises(AttributeError, match="longest"):
        get_metric("longest")


def test_needs_and_facts_are_checked():
    with pytest.raises(ValueError, match="unknown need of a metric 'generated'; did you mean 'generation'"):
        metric(version=1, title="x", source="y", needs="generated")
    with pytest.raises(TypeError, match="higher"):
        metric(version=1, title="x", source="y", higher=True)
