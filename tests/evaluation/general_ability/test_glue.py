"""Tasks asked from small files of their own schema: questions, labels, F1 and Matthews' correlation, errors by row."""

import json
import math

import pytest

from editbench.config import AbilityConfig, ProtocolConfig
from editbench.evaluation.general_ability import GLUE_TASKS, ability_tests, facts, glue, is_built_in
from editbench.evaluation.general_ability.glue import TASKS, Glue, matthews, weighted_f1
from editbench.model.likelihood import TargetScore
from tests.evaluation.examples import Bystander
from tests.tiny_models import tiny_lm

ROWS = {
    "sst2": [{"sentence": "a gorgeous film ", "label": 1, "idx": 0}, {"sentence": "dull .", "label": 0, "idx": 1}],
    "mrpc": [{"sentence1": "It rained.", "sentence2": "Rain fell.", "label": 1}],
    "cola": [{"sentence": "The cat sat mat.", "label": 0}],
    "rte": [{"sentence1": "Rome is in Italy.", "sentence2": "Italy has Rome.", "label": 0}],
    "mmlu": [{"question": "2 + 2?", "choices": ["3", "4", "5", "6"], "answer": 1, "subject": "algebra"}],
    "nli": [{"premise": "He sleeps.", "hypothesis": "He is awake.", "label": 2}],
}


def write(folder, name, rows):
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path):
    for name, rows in ROWS.items():
        write(tmp_path, name, rows)
    return tmp_path


def test_every_task_makes_its_question(folder):
    assert set(ROWS) == set(TASKS) == set(GLUE_TASKS)
    for name, rows in ROWS.items():
        test = Glue(name, str(folder))
        test.load()
        texts = [str(value) for column in TASKS[name].columns for value in [rows[0][column]] if column != "choices"]
        question, label = test._tests[0]
        assert all(text.strip() in question for text in texts) and question.endswith("Answer:")
        assert label == rows[0].get("label", rows[0].get("answer")) and len(test._tests) == len(rows)
    assert "A. 3\nB. 4\nC. 5\nD. 6\n" in Glue("mmlu", str(folder)).task.question(ROWS["mmlu"][0])


def test_answers_are_the_likeliest_labels(folder, monkeypatch):
    write(
        folder, "nli", [{"premise": str(i), "hypothesis": "x", "label": label} for i, label in enumerate([0, 0, 1, 2])]
    )
    nlls = iter([(1, 2, 3), (3, 1, 2), (2, 1, 3), (1, math.nan, 3)])  # right, wrong, right, no answer
    monkeypatch.setattr(
        glue,
        "score_targets",
        lambda lm, queries, **_: [tuple(TargetScore(nll, (True,), (0,)) for nll in next(nlls)) for _ in queries],
    )
    test = Glue("nli", str(folder))
    test.load()
    [found] = test.measure(None)
    assert (found.test, found.n) == ("glue_nli", 4)
    assert found.scores == {
        "acc": 0.5,
        "f1": weighted_f1([0, 0, 1, 2], [0, 1, 1, -1]),
        "mcc": matthews([0, 0, 1, 2], [0, 1, 1, -1]),
    }
    assert found.scores["f1"] == pytest.approx((2 * 2 / 3 + 1 * 2 / 3 + 0) / 4)
    assert set(found.stderr) == {"acc"} and found.ranges["mcc"] == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("labels", "answers", "f1", "mcc"),
    [
        ([0, 1, 1, 0], [0, 1, 1, 0], 1.0, 1.0),
        ([0, 1, 1, 0], [1, 0, 0, 1], 0.0, -1.0),
        ([0, 1, 1, 0], [1, 1, 1, 1], 1 / 3, 0.0),  # label 1: 2·2/(2+4), half of the tests
        ([1, 1, 1, 0], [1, 1, 0, 0], 3 / 4 * 0.8 + 1 / 4 * 2 / 3, 2 / math.sqrt(2 * 2 * 3 * 1)),
        ([1, 1], [1, 1], 1.0, 0.0),
    ],
)
def test_formulas_by_hand(labels, answers, f1, mcc):
    assert weighted_f1(labels, answers) == pytest.approx(f1)
    assert matthews(labels, answers) == pytest.approx(mcc)


def test_formulas_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    labels, answers = [0, 1, 2, 2, 1, 0, 0, 1, 2, 2], [0, 2, 2, 2, 1, 1, 0, -1, 0, 2]
    assert matthews(labels, answers) == pytest.approx(metrics.matthews_corrcoef(labels, answers))
    assert weighted_f1(labels, answers) == pytest.approx(metrics.f1_score(labels, answers, average="weighted"))


@pytest.mark.model
def test_a_model_is_asked_edited_or_not(folder):
    protocol = ProtocolConfig(ability=AbilityConfig(tasks=["glue_sst2", "glue_mmlu"], glue_path=str(folder), limit=1))
    lm, found = tiny_lm("gpt2"), []
    for test in ability_tests(protocol, seed=0):
        test.load()
        assert test.measure(lm) == test.measure(lm, Bystander())
        found += test.measure(lm)
        assert list(test.about()) == [f"glue_{test.name}"]
    assert [(one.test, one.n) for one in found] == [("glue_sst2", 1), ("glue_mmlu", 1)]
    assert set(facts(["glue_sst2"])) == {"glue_sst2.acc", "glue_sst2.f1", "glue_sst2.mcc"}
    assert is_built_in("glue_nli") and not is_built_in("sst2") and not is_built_in("glue_stsb")


@pytest.mark.parametrize("suffix", ["parquet", "tsv"])
def test_other_kinds_of_files(tmp_path, suffix):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS["sst2"])
    file = tmp_path / f"sst2.{suffix}"
    frame.to_parquet(file) if suffix == "parquet" else frame.to_csv(file, sep="\t", index=False)
    test = Glue("sst2", str(tmp_path))
    test.load()
    assert [label for _, label in test._tests] == [1, 0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"sentence": "x"}], r"needs the columns \['label', 'sentence'\]; \['label'\] miss"),
        ([{"sentence": "x", "label": 2}], "row 1: label is 2; it must be from 0 to 1"),
        ([{"sentence": "x", "label": "good"}], "row 1: label is 'good'"),
        ([], "has no row"),
    ],
)
def test_what_a_file_lacks_is_said(tmp_path, rows, message):
    write(tmp_path, "sst2", rows)
    with pytest.raises(ValueError, match=message):
        Glue("sst2", str(tmp_path)).load()


def test_the_folder_may_begin_at_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    Glue("sst2", f"~/{folder.name}").load()


def test_a_folder_is_needed(tmp_path):
    with pytest.raises(ValueError, match=r"name its folder: protocol\.ability\.glue_path"):
        Glue("rte", None).load()
    with pytest.raises(ValueError, match=r"there is none of .*rte\.jsonl"):
        Glue("rte", str(tmp_path)).load()
    write(tmp_path, "mmlu", [{"question": "?", "choices": ["1", "2"], "answer": 0}])
    with pytest.raises(ValueError, match=r"mmlu\.jsonl, row 1: question, choices make no question"):
        Glue("mmlu", str(tmp_path)).load()
