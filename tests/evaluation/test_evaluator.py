"""The evaluator on tiny models: rows of records, texts and questions of no record."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from editbench.config import ProtocolConfig
from editbench.costs import CachedCosts
from editbench.evaluation.evaluator import NO_TOKENS, Evaluator
from editbench.evaluation.general_ability.pocket_world import PocketAbility
from editbench.evaluation.generated_text import matches
from editbench.evaluation.questions import question_of, questions
from editbench.evaluation.unedited import ask_unedited
from editbench.model.generation import MARGIN
from editbench.model.likelihood import score_targets
from editbench.records import (
    LOCALITY,
    PARAPHRASE,
    REWRITE,
    SUBJECT_FACT,
    UNRELATED,
    EditRecord,
    GenerationPrompts,
    Passage,
    Probe,
    RecordSet,
)
from tests.evaluation.examples import GREEDY, PASSAGES, RECORDS, Bystander, PromptEditor, record, unedited_of
from tests.oracles import evaluation as oracle
from tests.tiny_models import POSITIONS, add_token, tiny_lm


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
        nll, correct, argmax = oracle.answer(lm, q.probe.prompt, q.target)
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
    assert rewrite["alternative_nll"] == pytest.approx(oracle.answer(lm, rewrite["prompt"], "French")[0], abs=1e-5)
    assert rewrite["answer"] == lm.tokenizer.decode(list(argmax)).strip() == rewrite["before"]
    assert unlabelled["target"] is None and unlabelled["nll"] is None and unlabelled["correct"] == []
    first = oracle.answer(lm, unlabelled["prompt"], "English")[2][:1]
    assert unlabelled["answer"] == unlabelled["before"] == lm.tokenizer.decode(list(first)).strip()


def test_generated_text_is_scored_beside_the_targets():
    lm = tiny_lm("llama", "float64", bos=True)
    generated = {}
    for q in questions(RECORDS[1]):
        limit = len(lm.continuation(q.target)) + MARGIN
        new = oracle.generate(lm, q.probe.prompt, limit)
        generated[q.probe.prompt] = lm.tokenizer.decode(new, skip_special_tokens=True).strip()
    (row,) = score(lm, RECORDS[1:])
    assert {p["prompt"]: p["generated"] for p in row["probes"]} == generated
    assert [p["prompt"] for p in row["probes"] if "generated_before" in p] == [p["prompt"] for p in row["probes"]][3:]
    assert row["scores"]["locality.generation_agreement"] == row["scores"]["subject_fact.generation_agreement"] == 1.0
    rewritten = generated[RECORDS[1].request.prompt]
    assert row["scores"]["rewrite.generation"] == float(matches(rewritten, "Italian and Russian"))
    assert "rewrite.generation_agreement" not in row["scores"]


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
    rows = score(lm, sifted, left_out=lambda probe, edits, position: why.get(probe.prompt))
    assert rows[0]["left_out"] == {
        **{"locality: is itself edited": 1, "subject_fact: so": 1, "paraphrase: is the edited prompt": 1}
    }
    assert rows[1]["left_out"] == {"locality: is itself edited": 1}
    assert [p["kind"] for p in rows[0]["probes"]].count(LOCALITY) == 2
    assert "subject_fact.agreement" not in rows[0]["scores"] and "subject_fact.agreement" in rows[1]["scores"]
    assert "locality.nll_contrast" not in rows[0]["scores"]


def test_a_question_that_the_model_has_no_tokens_for_is_left_out():
    lm = tiny_lm("gpt2")
    add_token(lm, "Lyonesse")
    request = RECORDS[0].request
    probes = (
        *(Probe(PARAPHRASE, "In Lyonesse she speaks"), Probe(PARAPHRASE, "She speaks")),
        *(Probe(LOCALITY, "Lyon is in", "Lyonesse"), Probe(LOCALITY, "Lyonesse is"), Probe(LOCALITY, "Lyon is in")),
    )
    texts = GenerationPrompts(prompts=("Lyonesse is", "Lyon is"), references=())
    records = [EditRecord(request, probes, free_text=texts), EditRecord(replace(request, id="bad", target="Lyonesse"))]
    evaluator = Evaluator(lm, unedited=unedited_of(lm, records=records), texts={})
    scored, refused = evaluator.score([(r, i) for i, r in enumerate(records)], **STAMP)
    assert scored["left_out"] == {f"{kind}: {NO_TOKENS}": n for kind, n in COUNTED.items()}
    assert [p["prompt"] for p in scored["probes"]] == [request.prompt, "She speaks", "Lyon is in"]
    assert refused["status"] == "unsupported" and "has the token 'Lyonesse'" in refused["reason"]


COUNTED = {"paraphrase": 1, "locality": 2, "free text": 1}


def test_a_spelling_that_the_model_has_no_tokens_for_is_left_out_alone():
    lm = tiny_lm("gpt2")
    add_token(lm, "Lyonesse")
    request = RECORDS[0].request
    probes = (Probe(PARAPHRASE, "She speaks"), Probe(LOCALITY, "Lyon is in", "Spain", ("Lyonesse", "Italy")))
    record = EditRecord(request, probes, also=("Lyonesse", "Polish"))
    plain = EditRecord(request, probes[:1], also=("Polish",))
    found = []
    for one in (record, plain):
        evaluator = Evaluator(lm, unedited=unedited_of(lm, records=[one]), texts={})
        found += evaluator.score([(one, 0)], **STAMP)
    assert found[0]["status"] == "scored"
    kinds = ("rewrite", "paraphrase", "locality")
    assert found[0]["left_out"] == {f"{kind}: the model cannot take a spelling": 1 for kind in kinds}
    assert [probe for probe in found[0]["probes"] if probe["kind"] != LOCALITY] == found[1]["probes"]


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
    assert others[0]["status"] == "unsupported" and others[0]["scores"] == {}
    assert others[1]["status"] == "scored"  # its own answer fits: the old one alone is left out
    assert others[1]["left_out"] == {"rewrite: the model cannot take the old answer": 1}
    assert "rewrite.exact_match" in others[1]["scores"] and "rewrite.nll_contrast" not in others[1]["scores"]
    assert others[0]["reason"] == (
        f"unsupported: prompt and answer take {tokens} tokens, {lm.name} has {lm.max_length}"
    )
    assert "cut" not in caplog.text and not any("cut" in probe for probe in scored["probes"])


def test_a_question_of_no_record_may_be_left_out_too():
    lm = tiny_lm("gpt2")
    asked = [question_of(Probe(UNRELATED, p, "Spain")) for p in ("Paris is in", "Rome is in", "Rome " * POSITIONS)]

    def left_out(probe, edits, position):
        return "is itself edited" if probe.prompt == "Rome is in" and edits == 2 and position is None else None

    evaluator = Evaluator(lm, unrelated=asked, left_out=left_out, metrics=["exact_match"])
    (row,) = evaluator.score_unrelated(**STAMP)
    assert (row["scores"]["questions"], row["scores"]["left_out"]) == (1, 2)
    (row,) = evaluator.score_unrelated("before", 0, -1)  # nothing is edited yet
    assert (row["scores"]["questions"], row["scores"]["left_out"]) == (2, 1)


@pytest.mark.parametrize("true", ["English", "english", " ENGLISH"])
def test_a_contrast_of_equal_answers_is_no_number(true):
    lm = tiny_lm("gpt2")
    same = record(true=true)
    (row,) = Evaluator(lm, metrics=["nll_contrast", "nll_difference", "exact_match"]).score([(same, 0)], **STAMP)
    assert set(row["scores"]) == {f"{kind}.exact_match" for kind in (REWRITE, PARAPHRASE, LOCALITY, SUBJECT_FACT)}


def test_records_that_cannot_be_scored_keep_their_place():
    lm = tiny_lm("gpt2")
    records = [(record(f"r{i}"), i) for i in range(5)]
    reasons = {"r0": "unsupported: no subject", "r2": "failed: the loss is NaN", "r3": "skipped: by hand", "r4": "odd"}
    rows = Evaluator(lm).score(records, **STAMP, unsupported=reasons)
    assert [r["record"] for r in rows] == ["r0", "r1", "r2", "r3", "r4"]
    assert [r["status"] for r in rows] == ["unsupported", "scored", "failed", "skipped", "unsupported"]
    assert rows[2]["reason"] == reasons["r2"] and rows[2]["scores"] == {} and rows[2]["probes"] == []


def test_without_the_unedited_model_there_is_no_agreement():
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


def test_unknown_metrics_are_refused():
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
        for probe, (one,) in zip(probes, score_targets(lm, [q.query for q in questions_]), strict=True)
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


def test_everything_is_asked_behind_an_editors_text():
    lm, editor = tiny_lm("llama", "float64", bos=True), PromptEditor()
    asked = [question_of(Probe(UNRELATED, "Lyon is in", "France"))]
    records = [(replace(r, free_text=GenerationPrompts(("Rome is in",), ("Rome.",))), i) for i, r in enumerate(RECORDS)]
    evaluator = Evaluator(lm, texts=PASSAGES, unrelated=asked, ability=[PocketAbility(tokens_per_batch=4096)])
    plain, edited = evaluator.score(records, **STAMP), evaluator.score(records, **STAMP, editor=editor)
    assert [p["prompt"] for p in edited[0]["probes"]] == [p["prompt"] for p in plain[0]["probes"]]
    for row in edited:
        for probe in row["probes"]:
            if probe["target"] is not None:
                behind = oracle.answer(lm, editor.asked(probe["prompt"]), probe["target"])[0]
                assert probe["nll"] == pytest.approx(behind)
                assert probe["nll"] != pytest.approx(oracle.answer(lm, probe["prompt"], probe["target"])[0], abs=1e-6)
            assert probe["activation"] == 0.5  # the method routes what the model is given
    assert edited[0]["scores"]["free_text.ngram_entropy"] != plain[0]["scores"]["free_text.ngram_entropy"]
    before, after = ({r["of"]: r["scores"] for r in evaluator.score_texts(**STAMP, editor=e)} for e in (None, editor))
    for name in ("perplexity.plain", "perplexity.accurate"):
        assert (
            after[name]["tokens"] == before[name]["tokens"] and after[name]["perplexity"] != before[name]["perplexity"]
        )
    (one,), (two,) = (evaluator.score_unrelated(**STAMP, editor=e) for e in (None, editor))
    assert one["scores"] != two["scores"] and two["scores"]["questions"] == 1
    editor.columns.clear()
    evaluator.score_ability(**STAMP, editor=editor)
    front = len(lm.encode(editor.FRONT).ids)
    assert min(min(columns) for columns in editor.columns) >= front
    evaluator.remember_hidden()
    assert evaluator.hidden_change(Bystander()) == 0.0 < evaluator.hidden_change(editor)


def test_an_evaluator_is_built_from_the_protocol(tmp_path):
    lm, left_out = tiny_lm("gpt2", bos=True), {"Lyon is in": "is itself edited"}
    unrelated = (Probe(UNRELATED, "Rome is", "Italy"),)
    records = RecordSet("answers", tuple(RECORDS), {"plain": PASSAGES["plain"]}, unrelated=unrelated, sentences=True)
    stream = SimpleNamespace(
        records=records.records,
        single=False,
        in_model=lambda edits, position: range(edits),
        left_out=lambda probe, edited: left_out.get(probe.prompt) if edited == range(2) else None,
    )
    protocol = ProtocolConfig(
        metrics=["exact_match", "generation"], max_tokens=4, max_new_tokens=3, tokens_per_batch=99
    )
    costs = CachedCosts()
    parts = {"cache": tmp_path, "seed": 5, "costs": costs}
    evaluator = Evaluator.build(lm, records, stream, protocol, **parts)
    assert [metric.name for metric in evaluator.metrics] == ["exact_match", "generation"]
    assert evaluator.unedited.generated and evaluator.unedited.texts["plain"]["tokens"] == 3 + 3
    assert len(list((tmp_path / "unedited").iterdir())) == 1 and evaluator.ability == ()
    row, *_ = evaluator.score([(r, i) for i, r in enumerate(RECORDS)], **STAMP)
    assert row["left_out"] == {"locality: is itself edited": 1} and "generated_before" in row["probes"][-1]
    assert "perplexity.edited" in [row["of"] for row in evaluator.score_texts(**STAMP)]  # its targets are sentences
    protocol = replace(protocol, metrics=["exact_match"])
    silent = Evaluator.build(lm, records, stream, protocol, **parts)
    assert silent.unedited.generated is None
