"""What a question costs alone: which are asked, how often, and by whom."""

import editbench
from editbench.evaluation import latency as module
from editbench.evaluation.latency import QUESTIONS, TURNS, latency
from editbench.records import EditRecord, EditRequest
from editbench.results.leaderboard import read_row
from tests.tiny_models import tiny_lm


def records(count, prompt="The capital of {} is"):
    return [EditRecord(EditRequest(str(i), prompt.format(i), None, " Paris")) for i in range(count)]


def test_each_question_is_asked_alone_with_the_edits_and_without(monkeypatch):
    """By a clock that the questions move: 3 seconds with the edits, 1 without, and more in most turns."""
    lm, asked, now = tiny_lm("llama"), [], [0.0]

    def answer(model, queries, editor):
        assert model is lm and len(queries) == 1
        asked.append((queries[0].prompt, editor))
        now[0] += (3.0 if editor else 1.0) + len(asked) % 7

    monkeypatch.setattr(module, "score_targets", answer)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    assert latency(lm, records(30), "edits") == {"question_seconds": 3.0, "question_seconds_bare": 1.0}
    prompts = list(dict.fromkeys(prompt for prompt, _ in asked))
    assert prompts == [one.request.prompt for one in records(QUESTIONS)]
    editors = [editor for _, editor in asked]
    assert editors.count("edits") == editors.count(None) == TURNS * (1 + QUESTIONS)
    first = editors[::2]
    assert abs(first.count("edits") - first.count(None)) <= 1


def test_questions_that_the_model_cannot_take_are_left_out():
    lm = tiny_lm("gpt2")  # 64 positions
    assert latency(lm, records(2, "word " * 90), None) == {} == latency(lm, [], None)
    found = latency(lm, [*records(1, "word " * 90), *records(1)], None)
    assert found["question_seconds"] > 0 and found["question_seconds_bare"] > 0


def test_a_run_has_it(tmp_path):
    given = ["method=rome", "method.steps=1", "stream.edits=2", "protocol.metrics=[exact_match,agreement]"]
    row = read_row(editbench.run([*given, "model=pocket", f"results.dir={tmp_path}"]).folder)
    assert row["question_seconds"] > 0
    assert row["latency_ratio"] == row["question_seconds"] / row["question_seconds_bare"]
