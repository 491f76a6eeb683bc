"""Metrics by hand; perplexity, baseline and evaluator on tiny models."""

import json
import math
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch

from editbench.evaluation import evaluator as evaluator_module
from editbench.evaluation import unedited as unedited_module
from editbench.evaluation.answer_matching import matches
from editbench.evaluation.evaluator import Evaluator
from editbench.evaluation.metrics import ProbeAnswers, get_metric, list_metrics
from editbench.evaluation.perplexity import CLIP, summarise, text_scores
from editbench.evaluation.questions import question_of, questions
from editbench.evaluation.unedited import ask_unedited
from editbench.model.generation import MARGIN, Generation, Said
from editbench.model.likelihood import NO_ANSWER, Answer, Query, answer
from editbench.records import (
    LOCALITY,
    PARAPHRASE,
    REWRITE,
    SUBJECT_FACT,
    UNRELATED,
    EditRecord,
    EditRequest,
    Passage,
    Probe,
    Route,
)
from tests.oracles import evaluation as oracle
from tests.test_host import metaspace
from tests.zoo import POSITIONS, tiny_lm

torch.set_num_threads(1)

GREEDY = Generation()
NAN, INF = math.nan, math.inf
RIGHT = Answer(0.5, (True, True), (4, 7))
HALF = Answer(1.5, (True, False), (4, 9))
BROKEN = Answer(NAN, (False,), (NO_ANSWER,))
NOTHING = Answer(NAN, (), ())


def record(name="r1", subject="Danielle Darrieux", target="English", true="French"):
    request = EditRequest(name, f"The mother tongue of {subject} is", subject, target, target_true=true)
    probes = (
        Probe(PARAPHRASE, f"Which language does {subject} speak?"),
        Probe(PARAPHRASE, f"{subject}, a native speaker of"),
        Probe(LOCALITY, "The mother tongue of Marcel Maupoil is", true),
        Probe(LOCALITY, "Apple A5 is produced by", "Apple"),
        Probe(LOCALITY, "Lyon is in"),
        Probe(SUBJECT_FACT, f"{subject} lives in", "Paris"),
    )
    return EditRecord(request, probes)


RECORDS = [record(), record("r2", "Edwin of Northumbria", "Italian and Russian", "Polish")]
PASSAGES = {
    "plain": (Passage("", "Toko Yasuda plays the guitar."), Passage("", "Google works with Microsoft in London.")),
    "accurate": (Passage("Marcel Maupoil lives in Paris.", "He is a native French speaker."),),
}


# -- metrics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "evidence", "expected"),
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
        ("nll_difference", ProbeAnswers(RIGHT, Answer(INF, (False,), (3,))), math.exp(-0.5)),
        ("nll_difference", ProbeAnswers(BROKEN, RIGHT), NAN),
        ("nll_difference", ProbeAnswers(RIGHT), None),
        ("agreement", ProbeAnswers(HALF, before=HALF), 1.0),
        ("agreement", ProbeAnswers(HALF, before=RIGHT), 0.0),
        ("agreement", ProbeAnswers(BROKEN, before=BROKEN), 0.0),
        ("agreement", ProbeAnswers(RIGHT), None),
        ("agreement_tokens", ProbeAnswers(HALF, before=RIGHT), 0.5),
        ("agreement_tokens", ProbeAnswers(NOTHING, before=NOTHING), None),
        ("generation", ProbeAnswers(RIGHT, gold="English", said=Said("the English. He")), 1.0),
        ("generation", ProbeAnswers(RIGHT, gold="English", said=Said("English and he")), 0.0),
        ("generation", ProbeAnswers(RIGHT, gold="English", said=Said("")), 0.0),
        ("generation", ProbeAnswers(RIGHT, gold="English", said=Said("English", finite=False)), 0.0),
        ("generation", ProbeAnswers(RIGHT, gold="English and Russian", said=Said("English and Russian\nHe")), 1.0),
        ("generation", ProbeAnswers(RIGHT, said=Said("English")), None),
        ("generation", ProbeAnswers(RIGHT, gold="English"), None),
        ("generation_exact", ProbeAnswers(RIGHT, gold="English", said=Said(" English ")), 1.0),
        ("generation_exact", ProbeAnswers(RIGHT, gold="English", said=Said("english")), 0.0),
        ("generation_exact", ProbeAnswers(RIGHT, gold="English", said=Said("English.")), 0.0),
        ("generation_exact", ProbeAnswers(RIGHT, gold="English", said=Said("English", finite=False)), 0.0),
        ("generation_exact", ProbeAnswers(RIGHT, gold="English"), None),
        ("generation_contains", ProbeAnswers(RIGHT, gold="English", said=Said("speaks English and")), 1.0),
        ("generation_contains", ProbeAnswers(RIGHT, gold="English", said=Said("Englishman")), 0.0),
        ("generation_contains", ProbeAnswers(RIGHT, gold="English", said=Said("English", finite=False)), 0.0),
        ("generation_contains", ProbeAnswers(RIGHT, gold="English"), None),
        ("generation_f1", ProbeAnswers(RIGHT, gold="the English of old", said=Said("old English. More")), 2 / 3),
        ("generation_f1", ProbeAnswers(RIGHT, gold="New New York", said=Said("New York, New York")), 6 / 7),
        ("generation_f1", ProbeAnswers(RIGHT, gold="English", said=Said("French")), 0.0),
        ("generation_f1", ProbeAnswers(RIGHT, gold="English", said=Said("")), 0.0),
        ("generation_f1", ProbeAnswers(RIGHT, gold="English", said=Said("English", finite=False)), 0.0),
        ("generation_f1", ProbeAnswers(RIGHT, gold="English"), None),
        ("generation_agreement", ProbeAnswers(RIGHT, said=Said("A dog. B"), said_before=Said("dog. C")), 1.0),
        ("generation_agreement", ProbeAnswers(RIGHT, said=Said("dog"), said_before=Said("cat")), 0.0),
        ("generation_agreement", ProbeAnswers(RIGHT, said=Said("", False), said_before=Said("")), 0.0),
        ("generation_agreement", ProbeAnswers(RIGHT, gold="dog", said=Said("dog")), None),
        ("activation", ProbeAnswers(RIGHT), None),
        ("activation", ProbeAnswers(RIGHT, recognised=Route(None, 0.25)), 0.25),
        ("routing", ProbeAnswers(RIGHT), None),
        ("routing", ProbeAnswers(RIGHT, recognised=Route("a", 0.9), edit="a"), 1.0),
        ("routing", ProbeAnswers(RIGHT, recognised=Route("b", 0.9), edit="a"), 0.0),
        ("routing", ProbeAnswers(RIGHT, recognised=Route(None, 0.2), edit="a"), 0.0),
        ("routing", ProbeAnswers(RIGHT, recognised=Route(None, 0.2)), 1.0),
        ("routing", ProbeAnswers(RIGHT, recognised=Route("a", 0.9)), 0.0),
        ("nonfinite", ProbeAnswers(RIGHT, HALF), 0.0),
        ("nonfinite", ProbeAnswers(BROKEN), 1.0),
        ("nonfinite", ProbeAnswers(RIGHT, Answer(INF, (False,), (3,))), 1.0),
        ("nonfinite", ProbeAnswers(RIGHT.first()), 0.0),
        ("nonfinite", ProbeAnswers(NOTHING), None),
    ],
)
def test_scorers_by_hand(name, evidence, expected):
    found = get_metric(name).score(evidence)
    assert found == (expected if expected is None else pytest.approx(expected, nan_ok=True))


def test_scorers_say_what_they_are():
    for metric in list_metrics():
        assert metric.version >= 1 and metric.description and get_metric(metric.name) is metric
    with pytest.raises(ValueError, match="unknown metric 'exactmatch'; did you mean 'exact_match'"):
        get_metric("exactmatch")


def test_scorers_say_whether_they_are_shares():
    """Of the numbers in the table above, those outside [0, 1] belong to metrics that declare no share."""
    shares = {metric.name for metric in list_metrics() if metric.share}
    assert {metric.name for metric in list_metrics()} - shares == {"nll_difference", "activation", "ngram_entropy"}
    (table,) = (mark.args[1] for mark in test_scorers_by_hand.pytestmark)
    assert all(0 <= number <= 1 for name, _, number in table if name in shares and number is not None)


def test_scorers_are_listed_without_torch():
    code = (
        "import sys; from editbench.evaluation import list_metrics; list_metrics(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- questions --------------------------------------------------------------------------------------------------------


def test_which_answer_is_right():
    found = [(q.probe.kind, q.wanted, q.other, q.labelled) for q in questions(RECORDS[0])]
    assert found == [
        (REWRITE, "English", "French", True),
        (PARAPHRASE, "English", "French", True),
        (PARAPHRASE, "English", "French", True),
        (LOCALITY, "French", "English", True),
        (LOCALITY, "Apple", None, True),
        (LOCALITY, "English", None, False),
        (SUBJECT_FACT, "Paris", None, True),
    ]
    bare = EditRecord(EditRequest("x", "Paris is in", None, "Spain"))
    assert [q.query for q in questions(bare)] == [Query("Paris is in", ("Spain",))]


# -- perplexity -------------------------------------------------------------------------------------------------------


def test_perplexity_by_hand():
    answers = [Answer(1.0, (True,) * 3, (1, 2, 3)), Answer(2.0, (True,), (1,)), NOTHING]
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
    three = [Answer(n, (True,), (1,)) for n in (1.0, 2.0, 9.0)]
    assert summarise(three)["perplexity_median"] == pytest.approx(math.exp(2))
    assert summarise(three)["perplexity_clipped"] == pytest.approx((math.exp(1) + math.exp(2) + CLIP) / 3)
    endless = summarise([*three, Answer(INF, (False,), (NO_ANSWER,))])
    assert endless["perplexity_mean"] == INF
    assert endless["perplexity_clipped"] == pytest.approx((math.exp(1) + math.exp(2) + 2 * CLIP) / 4)
    told = [replace(one, routed=routed) for one, routed in zip(three, (True, False, False), strict=True)]
    assert summarise(told)["routed"] == pytest.approx(1 / 3)
    assert summarise([Answer(1e4, (False,), (1,))])["perplexity"] == INF
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


# -- baseline ---------------------------------------------------------------------------------------------------------


def unedited_of(lm, folder=None, records=RECORDS, fingerprint="weights", generation=GREEDY, **options):
    return ask_unedited(
        lm, records, PASSAGES, model_fingerprint=fingerprint, generation=generation, cache=folder, **options
    )


@pytest.fixture
def runs(monkeypatch):
    """Counts the calls that run the model."""
    calls = []
    monkeypatch.setattr(unedited_module, "answer", lambda *a, **k: calls.append(1) or answer(*a, **k))
    return calls


def test_the_baseline_is_computed_once(tmp_path, runs):
    lm = tiny_lm("gpt2")
    first = unedited_of(lm, tmp_path / "cache")
    lm.mlp_out(1).weight.data.zero_()  # an edit; the cached answers are the pristine model's
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = unedited_of(lm, tmp_path / "cache")
    assert len(runs) == 1
    assert first == second
    assert {pair for pair in first.answers} == {(q.probe.prompt, q.wanted) for r in RECORDS for q in questions(r)}
    assert set(first.said) == {(q.probe.prompt, q.wanted) for r in RECORDS for q in questions(r) if q.stays}
    assert set(first.texts) == {"plain", "accurate"}
    assert [f.suffix for f in (tmp_path / "cache").iterdir()] == [".json"]


def test_another_model_or_question_is_another_baseline(tmp_path, runs):
    lm = tiny_lm("gpt2")
    unedited_of(lm, tmp_path)
    unedited_of(lm, tmp_path, fingerprint="other weights")
    unedited_of(lm, tmp_path, records=RECORDS[:1])
    unedited_of(lm, tmp_path, max_tokens=3)
    unedited_of(lm, tmp_path, generation=None)
    unedited_of(lm, tmp_path, generation=Generation(max_new_tokens=4))
    assert len(runs) == 6 and len(list(tmp_path.iterdir())) == 6
    unedited_of(lm, tmp_path, records=RECORDS[::-1])
    unedited_of(lm, tmp_path, generation=replace(GREEDY, seed=7))
    assert len(runs) == 6  # neither the order of the records matters, nor a seed with which nothing is drawn


def test_what_runs_the_model_decides_its_baseline(tmp_path, runs, monkeypatch):
    unedited_of(tiny_lm("llama", attention="sdpa"), tmp_path)
    unedited_of(tiny_lm("llama", attention="eager"), tmp_path)
    lm = tiny_lm("llama", attention="sdpa")
    lm.model.generation_config.eos_token_id = [lm.tokenizer.eos_token_id, 7]
    unedited_of(lm, tmp_path)  # 7 ends a text, too
    lm.model.generation_config.eos_token_id = lm.tokenizer.eos_token_id
    for library in ("torch", "transformers", "tokenizers"):
        with monkeypatch.context() as patch:
            patch.setattr(f"{library}.__version__", "99.0")
            unedited_of(lm, tmp_path)
    matmul = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        unedited_of(lm, tmp_path)
    finally:
        torch.set_float32_matmul_precision(matmul)
    assert len(runs) == 7
    unedited_of(lm, tmp_path)
    assert len(runs) == 7
    assert lm.numerics["device"] == "cpu" and lm.numerics["dtype"] == "torch.float32"


@pytest.mark.parametrize("damage", ["cut", "changed", "foreign", "empty"])
def test_a_damaged_baseline_is_computed_again(tmp_path, runs, damage):
    lm = tiny_lm("gpt2")
    good = unedited_of(lm, tmp_path)
    (file,) = tmp_path.iterdir()
    stored = json.loads(file.read_text())
    stored["content"]["answers"][0][4][0] += 1
    text = {"cut": file.read_text()[:-50], "changed": json.dumps(stored), "foreign": "[1, 2]", "empty": ""}[damage]
    file.write_text(text)
    with pytest.warns(UserWarning, match="damaged"):
        assert unedited_of(lm, tmp_path) == good
    assert unedited_of(lm, tmp_path) == good  # it was repaired
    assert len(runs) == 2


def test_a_baseline_of_other_records_is_refused():
    lm = tiny_lm("gpt2")
    evaluator = Evaluator(lm, unedited=unedited_of(lm, records=RECORDS[:1]))
    with pytest.raises(ValueError, match="baseline has no answer to"):
        evaluator.score([(RECORDS[1], 0)], stage="final", edits=1, batch=0)


# -- evaluator --------------------------------------------------------------------------------------------------------


def score(lm, records=RECORDS, **options):
    evaluator = Evaluator(lm, unedited=unedited_of(lm), **options)
    return evaluator.score([(r, i) for i, r in enumerate(records)], stage="immediate", edits=1, batch=0)


def test_rows_are_what_the_results_store():
    first, second = score(tiny_lm("gpt2"), metrics=["exact_match", "nll_contrast", "agreement"])
    assert {k: second[k] for k in ("stage", "edits", "batch", "record", "position", "status", "reason")} == {
        **{"stage": "immediate", "edits": 1, "batch": 0},
        **{"record": "r2", "position": 1, "status": "scored", "reason": None},
    }
    assert set(first["scores"]) == {
        *("rewrite.exact_match", "rewrite.nll_contrast", "paraphrase.exact_match", "paraphrase.nll_contrast"),
        *("locality.exact_match", "locality.nll_contrast", "locality.agreement"),
        *("subject_fact.exact_match", "subject_fact.agreement"),
    }
    assert first["scores"]["locality.agreement"] == first["scores"]["subject_fact.agreement"] == 1.0
    assert first["left_out"] == {}
    json.dumps(first)


def test_averages_are_within_the_record_and_kind():
    lm = tiny_lm("llama")
    (row, _) = score(lm)
    right = []
    for q in questions(RECORDS[0]):
        nll, correct, argmax = oracle.answer(lm, q.probe.prompt, q.wanted)
        if q.probe.kind == LOCALITY and q.labelled:
            right.append(sum(correct) / len(correct))
    assert len(right) == 2
    assert row["scores"]["locality.token_accuracy"] == pytest.approx(sum(right) / 2)
    neighbour = oracle.answer(lm, RECORDS[0].probes[2].prompt, "French")[0]
    other = oracle.answer(lm, RECORDS[0].probes[2].prompt, "English")[0]
    assert row["scores"]["locality.nll_contrast"] == float(neighbour < other)
    assert row["scores"]["locality.nll_difference"] == pytest.approx(math.exp(-neighbour) - math.exp(-other), abs=1e-5)


def test_probe_details():
    lm = tiny_lm("gpt2")
    (row, _) = score(lm)
    rewrite, unlabelled = row["probes"][0], row["probes"][5]
    nll, correct, argmax = oracle.answer(lm, rewrite["prompt"], "English")
    assert rewrite["kind"] == REWRITE and rewrite["target"] == "English"
    assert rewrite["nll"] == pytest.approx(nll, abs=1e-5) and rewrite["correct"] == list(correct)
    assert rewrite["other_nll"] == pytest.approx(oracle.answer(lm, rewrite["prompt"], "French")[0], abs=1e-5)
    assert rewrite["answer"] == lm.tokenizer.decode(list(argmax)).strip() == rewrite["before"]
    assert unlabelled["target"] is None and unlabelled["nll"] is None and unlabelled["correct"] == []
    first = oracle.answer(lm, unlabelled["prompt"], "English")[2][:1]
    assert unlabelled["answer"] == unlabelled["before"] == lm.tokenizer.decode(list(first)).strip()


def test_generated_text_is_scored_beside_the_targets():
    lm = tiny_lm("llama", "float64", bos=True)
    said = {}
    for q in questions(RECORDS[1]):
        limit = len(lm.continuation(q.wanted)) + MARGIN
        new = oracle.generate(lm, q.probe.prompt, limit)
        said[q.probe.prompt] = lm.tokenizer.decode(new, skip_special_tokens=True).strip()
    (row,) = score(lm, RECORDS[1:])
    assert {p["prompt"]: p["said"] for p in row["probes"]} == said
    assert [p["prompt"] for p in row["probes"] if "said_before" in p] == [p["prompt"] for p in row["probes"]][3:]
    assert row["scores"]["locality.generation_agreement"] == row["scores"]["subject_fact.generation_agreement"] == 1.0
    rewritten = said[RECORDS[1].request.prompt]
    assert row["scores"]["rewrite.generation"] == float(matches(rewritten, "Italian and Russian"))
    assert "rewrite.generation_agreement" not in row["scores"]


def test_a_target_that_does_not_fit_gives_no_number():
    evaluator = Evaluator(tiny_lm("gpt2"), generation=Generation(max_new_tokens=1))
    found = evaluator.score([(RECORDS[1], 0)], **STAMP)[0]["scores"]
    assert "rewrite.generation" not in found and "rewrite.generation_contains" not in found


def test_nothing_is_generated_unless_a_scorer_asks(monkeypatch):
    monkeypatch.setattr(evaluator_module, "generate", lambda *a, **k: pytest.fail("not asked for"))
    (row, _) = score(tiny_lm("gpt2"), metrics=["exact_match"])
    assert "said" not in row["probes"][0]


def test_agreement_is_with_the_pristine_model():
    lm = tiny_lm("gpt2")
    evaluator = Evaluator(lm, unedited=unedited_of(lm), metrics=["agreement_tokens"])
    before = [p["before"] for p in evaluator.score([(RECORDS[0], 0)], **STAMP)[0]["probes"] if "before" in p]
    lm.model.transformer.h[2].mlp.c_proj.weight.data.mul_(-3)
    (row,) = evaluator.score([(RECORDS[0], 0)], **STAMP)
    assert [p["before"] for p in row["probes"] if "before" in p] == before
    assert row["scores"]["locality.agreement_tokens"] < 1
    assert any(p["before"] != p["answer"] for p in row["probes"] if "before" in p)


STAMP = {"stage": "final", "edits": 2, "batch": 1}


def test_probes_are_left_out_and_counted_by_kind_and_reason():
    lm = tiny_lm("gpt2")
    why = {"The mother tongue of Marcel Maupoil is": "is itself edited", "Danielle Darrieux lives in": "so"}
    sifted = [replace(RECORDS[0], left_out=("paraphrase: is the edited prompt",)), RECORDS[1]]
    rows = score(lm, sifted, left_out=lambda probe: why.get(probe.prompt))
    assert rows[0]["left_out"] == {
        **{"locality: is itself edited": 1, "subject_fact: so": 1, "paraphrase: is the edited prompt": 1}
    }
    assert rows[1]["left_out"] == {"locality: is itself edited": 1}
    assert [p["kind"] for p in rows[0]["probes"]].count(LOCALITY) == 2
    assert "subject_fact.agreement" not in rows[0]["scores"] and "subject_fact.agreement" in rows[1]["scores"]
    assert "locality.nll_contrast" not in rows[0]["scores"]


def test_a_question_that_does_not_fit_is_not_asked_in_another_form(caplog):
    lm = tiny_lm("gpt2")
    long = "The guitar is played. " * 40
    request = RECORDS[0].request
    probes = (
        *(Probe(PARAPHRASE, long + "She speaks"), Probe(PARAPHRASE, "She speaks")),
        *(Probe(LOCALITY, "Lyon is in", "France " * POSITIONS), Probe(LOCALITY, "Lyon is in", "Spain")),
    )
    unfit = EditRecord(replace(request, id="long", prompt=long + request.prompt), probes[1:2])
    far = EditRecord(replace(request, id="far", target_true="French " * POSITIONS))
    records = [EditRecord(request, probes), unfit, far]
    evaluator = Evaluator(lm, unedited=unedited_of(lm, records=records), texts={})
    scored, *others = evaluator.score([(r, i) for i, r in enumerate(records)], **STAMP)
    assert scored["left_out"] == {"paraphrase: too long for the model": 1, "locality: too long for the model": 1}
    assert [p["prompt"] for p in scored["probes"]] == [request.prompt, "She speaks", "Lyon is in"]
    tokens = len(lm.encode(unfit.request.prompt).ids) + max(len(lm.continuation(t)) for t in ("English", "French"))
    assert {row["status"] for row in others} == {"unsupported"} and others[0]["scores"] == {}
    assert others[0]["reason"] == (
        f"unsupported: prompt and answer take {tokens} tokens, {lm.name} has {lm.max_length}"
    )
    assert "cut" not in caplog.text and not any("cut" in probe for probe in scored["probes"])


def test_a_question_of_no_record_may_be_left_out_too():
    lm = tiny_lm("gpt2")
    asked = [question_of(Probe(UNRELATED, p, "Spain")) for p in ("Paris is in", "Rome is in", "Rome " * POSITIONS)]
    left_out = lambda probe: "is itself edited" if probe.prompt == "Rome is in" else None  # noqa: E731
    evaluator = Evaluator(lm, unrelated=asked, left_out=left_out, metrics=["exact_match"])
    (row,) = evaluator.score_unrelated(**STAMP)
    assert (row["scores"]["questions"], row["scores"]["left_out"]) == (1, 2)


@pytest.mark.parametrize("true", ["English", "english", " ENGLISH"])
def test_a_contrast_of_equal_answers_is_no_number(true):
    lm = tiny_lm("gpt2")
    same = record(true=true)
    (row,) = Evaluator(lm, metrics=["nll_contrast", "nll_difference", "exact_match"]).score([(same, 0)], **STAMP)
    assert set(row["scores"]) == {f"{kind}.exact_match" for kind in (REWRITE, PARAPHRASE, LOCALITY, SUBJECT_FACT)}


def test_a_contrast_of_answers_that_the_tokenizer_does_not_tell_apart_is_no_number():
    lm = tiny_lm("llama")
    lm.tokenizer = metaspace(legacy=False, bos=False)
    unknown = EditRecord(EditRequest("u", "The York is", None, "北", "京"))
    assert lm.continuation("北") == lm.continuation("京")
    (row,) = Evaluator(lm, metrics=["nll_contrast", "exact_match"]).score([(unknown, 0)], **STAMP)
    assert set(row["scores"]) == {"rewrite.exact_match"}


def test_records_that_cannot_be_scored_keep_their_place():
    lm = tiny_lm("gpt2")
    records = [(record(f"r{i}"), i) for i in range(5)]
    reasons = {"r0": "unsupported: no subject", "r2": "failed: the loss is NaN", "r3": "skipped: by hand", "r4": "odd"}
    rows = Evaluator(lm).score(records, **STAMP, unsupported=reasons)
    assert [r["record"] for r in rows] == ["r0", "r1", "r2", "r3", "r4"]
    assert [r["status"] for r in rows] == ["unsupported", "scored", "failed", "skipped", "unsupported"]
    assert rows[2]["reason"] == reasons["r2"] and rows[2]["scores"] == {} and rows[2]["probes"] == []


def test_everything_goes_through_the_model_together(monkeypatch):
    calls = []
    monkeypatch.setattr(evaluator_module, "answer", lambda *a, **k: calls.append(k) or answer(*a, **k))
    seen = lambda self, prompts: [Route(RECORDS[0].id, 0.75)] * len(prompts)  # noqa: E731
    parts = {"answering": lambda self, columns: torch.no_grad(), "route": seen}
    editor = object.__new__(type("Editor", (), parts))
    evaluator = Evaluator(tiny_lm("gpt2"), tokens_per_batch=100)
    row, *others = evaluator.score([(r, 0) for r in RECORDS], **STAMP, editor=editor)
    assert [(k["editor"], k["tokens_per_batch"]) for k in calls] == [(editor, 100)]
    assert row["scores"]["rewrite.activation"] == 0.75 and row["scores"]["rewrite.routing"] == 1.0
    assert all(other["scores"]["rewrite.routing"] == 0.0 for other in others)
    assert {
        row["scores"][f"{kind}.routing"] for kind in (LOCALITY, SUBJECT_FACT) if f"{kind}.routing" in row["scores"]
    } <= {0.0}
    assert row["probes"][0]["answered_by"] == RECORDS[0].id


def test_without_a_baseline_there_is_no_agreement():
    (row,) = Evaluator(tiny_lm("gpt2")).score([(RECORDS[0], 0)], **STAMP)
    assert not any("agreement" in name for name in row["scores"])
    assert "before" not in row["probes"][3]


def test_texts_have_a_row_each():
    lm = tiny_lm("llama", bos=True)
    evaluator = Evaluator(lm, texts=PASSAGES)
    evaluator.score([(r, i) for i, r in enumerate(RECORDS)], **STAMP)
    rows = {row["of"].removeprefix("perplexity."): row for row in evaluator.score_texts(**STAMP)}
    assert set(rows) == {"plain", "accurate", "edited", "mean_of_three"}
    for figure in ("perplexity", "perplexity_mean", "perplexity_median", "perplexity_clipped"):
        three = [rows[name]["scores"][figure] for name in ("plain", "accurate", "edited")]
        assert rows["mean_of_three"]["scores"][figure] == pytest.approx(sum(three) / 3)
    edited = [Passage(r.request.prompt, r.request.target) for r in RECORDS]
    for name, passages in {**PASSAGES, "edited": edited}.items():
        assert {k: rows[name][k] for k in STAMP} == STAMP
        found = rows[name]["scores"]
        assert found["texts"] == len(passages) and found["nonfinite"] == 0
        expected = oracle.perplexity(lm, passages)
        assert (found["perplexity"], found["perplexity_mean"]) == pytest.approx(expected, rel=1e-5)
    assert unedited_of(lm).texts["plain"] == pytest.approx(rows["plain"]["scores"])


def test_edited_texts_stand_beside_accurate_ones_only():
    evaluator = Evaluator(tiny_lm("gpt2"), texts={"plain": PASSAGES["plain"]})
    evaluator.score([(RECORDS[0], 0)], **STAMP)
    assert [row["of"] for row in evaluator.score_texts(**STAMP)] == ["perplexity.plain"]


def test_a_broken_model_is_scored_as_broken():
    lm = tiny_lm("gpt2")
    evaluator = Evaluator(lm, unedited=unedited_of(lm), texts=PASSAGES)
    lm.mlp_out(0).weight.data.fill_(math.nan)
    (row,) = evaluator.score([(RECORDS[0], 0)], **STAMP)
    assert row["scores"]["rewrite.nonfinite"] == row["scores"]["locality.nonfinite"] == 1.0
    assert row["scores"]["rewrite.exact_match"] == row["scores"]["locality.agreement"] == 0.0
    assert math.isnan(row["scores"]["rewrite.nll_difference"]) and row["probes"][0]["answer"] == ""
    assert all(r["scores"]["nonfinite"] == r["scores"]["texts"] for r in evaluator.score_texts(**STAMP))


def test_unknown_scorers_are_refused():
    with pytest.raises(ValueError, match="did you mean 'agreement'"):
        Evaluator(tiny_lm("gpt2"), metrics=["agreemnt"])


def test_questions_of_no_record_are_averaged_over_themselves():
    lm = tiny_lm("llama", bos=True)
    probes = [Probe(UNRELATED, "Paris is in", "France"), Probe(UNRELATED, "Rome is in", "English and Russian")]
    questions_ = [question_of(probe) for probe in probes]
    unedited = ask_unedited(lm, [], unrelated=questions_, model_fingerprint="m", generation=GREEDY)
    evaluator = Evaluator(lm, unedited=unedited, unrelated=questions_, generation=GREEDY)
    (row,) = evaluator.score_unrelated(**STAMP)
    by_hand = [
        [a == b for a, b in zip(one.argmax, lm.continuation(probe.target), strict=True)]
        for probe, (one,) in zip(probes, answer(lm, [q.query for q in questions_]), strict=True)
    ]
    assert (row["of"], row["scores"]["questions"]) == ("unrelated", 2)
    assert row["scores"]["token_accuracy"] == pytest.approx(sum(sum(c) / len(c) for c in by_hand) / 2)
    assert row["scores"]["agreement"] == row["scores"]["generation_agreement"] == 1.0
    assert "nll_contrast" not in row["scores"]
    with torch.no_grad():
        lm.model.get_input_embeddings().weight.mul_(-1)
    (row,) = evaluator.score_unrelated(**STAMP)
    assert row["scores"]["agreement_tokens"] < 1.0
    assert Evaluator(lm).score_unrelated(**STAMP) == []
    with pytest.raises(ValueError, match="'Paris is in' belongs to no record and needs a right answer"):
        question_of(Probe(UNRELATED, "Paris is in"))
