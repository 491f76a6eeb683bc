"""Runs with a judge: measures beside exact match, nothing lost on a failure, no secret, no call unasked for."""

import json
import shutil

import pytest

from editbench import single_run
from editbench.evaluation.judge.endpoint import JudgeError
from editbench.submission.verify import verify
from tests.test_editing_loop import comparable, lines, make, tiny_folder  # noqa: F401

SECRET = "sk-very-secret"
METRICS = "protocol.metrics=[exact_match,agreement,generation]"


def by_length(prompt):
    """Any verdict, the same for the same prompt."""
    return ("yes", "no", "perhaps")[len(prompt) % 3]


@pytest.fixture
def judged(make, server, monkeypatch):  # noqa: F811
    monkeypatch.setenv("MY_KEY", SECRET)
    server.reply = by_length
    own = [f"protocol.judge.url={server.url}", "protocol.judge.model=mine", "protocol.judge.key_variable=MY_KEY"]
    return lambda *more, **options: make(METRICS, *own, *more, **options)


def means(folder):
    info = json.loads((folder / "run.json").read_text())
    return {name: one["mean"] for name, one in info["summary"]["final"]["measures"].items()}


def test_verdicts_become_measures_beside_exact_match(judged, server, tmp_path, caplog):
    folder = single_run.run(judged()).folder
    assert f"the judge mine is asked over the network at {server.url}, at most " in caplog.text
    assert len(server.asked) <= int(caplog.text.split("at most ")[1].split()[0])
    rows = [row for row in lines(folder, "scores.jsonl") if row["stage"] == "final" and "record" in row]
    for row in rows:
        own = [probe for probe in row["probes"] if probe["kind"] == "paraphrase" and "judged" in probe]
        known = [probe["judged"] == "yes" for probe in own if probe["judged"] not in ("perhaps", "")]
        assert row["scores"].get("paraphrase.judge") == (sum(known) / len(known) if known else None)
        assert row["scores"]["paraphrase.judge_unclear"] == sum(p["judged"] == "perhaps" for p in own) / len(own)
    found = means(folder)
    assert 0 < found["locality.judge"] < 1 and 0 < found["locality.judge_unclear"] < 1
    assert found["locality.judge_agreement"] is not None
    info = json.loads((folder / "run.json").read_text())
    assert info["provenance"]["versions"]["judge"] == info["metrics"]["judge"]["version"]
    assert info["provenance"]["parts"]["protocol.judge.model"] == "mine"
    kept = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(kept) > 20 and not [file for file in kept if SECRET.encode() in file.read_bytes()]
    assert SECRET not in caplog.text


@pytest.mark.slow
def test_the_cache_answers_a_repetition_with_the_same_numbers(judged, server):
    folder = single_run.run(judged()).folder
    before, asked = comparable(folder), len(server.asked)
    single_run.run(judged("results.rerun=true"))
    assert comparable(folder) == before and len(server.asked) == asked
    assert "verdicts" in json.loads((folder / "run.json").read_text())["costs"]["cached"]


def test_a_run_goes_on_where_its_judge_failed(judged, server, tmp_path):
    whole = single_run.run(judged(results="whole")).folder
    asked = sorted(server.prompts)
    shutil.rmtree(tmp_path / "cache" / "verdicts")
    server.asked.clear()
    server.failures = [(200, {})] * 7 + [(503, {})] * 3
    hasty = ("protocol.judge.retries=2", "protocol.judge.parallel=1")
    with pytest.raises(JudgeError, match="same command goes on"):
        single_run.run(judged(*hasty))
    folder = single_run.run(judged()).folder  # with other settings of how to ask: the same run
    assert comparable(folder) == comparable(whole)
    assert len({*server.prompts[7:10]}) == 1
    assert sorted([*server.prompts[:7], *server.prompts[10:]]) == asked  # each once, but for the tries


@pytest.mark.slow
def test_checking_a_claim_asks_nobody(judged, server, tiny_folder, tmp_path):  # noqa: F811
    folder = single_run.run(judged()).folder
    asked = len(server.asked)
    config = json.loads((folder / "run.json").read_text())["provenance"]
    places = {name.partition("/")[0] for name in config["inputs"]}
    own = {"model.path": str(tiny_folder), "dataset.path": str(tmp_path / "counterfact.json")}
    own["dataset.plain_path"] = str(tmp_path / "plain.txt")
    verdict = verify(folder, 2, sample=4, places=own)
    assert verdict.status == "verified", (verdict.reasons, places)
    assert verdict.rescored["scores"] > 0 and len(server.asked) == asked
