"""Another package adds one thing of each kind by entry points alone, and a run uses all of them."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands.processes import ROOT, python

pytestmark = pytest.mark.slow

MAKE_MODEL = """
import sys
from pathlib import Path

sys.path.append(sys.argv[1])
from editbench_shout.architecture import tiny_murmur
from tests.tiny_models import tiny_tokenizer

tokenizer = tiny_tokenizer()
tiny_murmur(len(tokenizer)).save_pretrained("murmur-tiny")
tokenizer.save_pretrained("murmur-tiny")
"""
COMMANDS = """
import contextlib, io, json, sys
from editbench import cli

for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as errors:
        status = cli.main(arguments)
    print(json.dumps([status, out.getvalue(), errors.getvalue()]))
"""
ROWS = [
    {
        "call": f"The mother tongue of {name} is",
        "name": name,
        "echo": echo,
        "again": [f"{name} speaks"],
        "elsewhere": [{"prompt": "Toko Yasuda plays the", "target": "guitar"}],
    }
    for name, echo in (("Danielle Darrieux", "English"), ("Marcel Maupoil", "Polish"), ("Edwin", "Italian"))
]
RUN = ("run", "model.path=murmur-tiny", "model.texts=plain.txt", "dataset=shouts", "dataset.path=shouts.json")
RUN += ("method=shout", "protocol.metrics=[exact_match,agreement,surprise]", "stream.edits=3", "results.dir=results")
TRACKED = ("tracker=jsonl", "tracker.settings.file=seen.jsonl", "dataset.case=upper")


@pytest.fixture(scope="module")
def place(shout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of the package's class and records in the package's layout."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "shouts.json").write_text(json.dumps(ROWS))
    (folder / "plain.txt").write_text("Toko Yasuda plays the guitar.\n")
    python(sys.executable, "-c", MAKE_MODEL, str(ROOT), cwd=folder, path=shout)
    return folder


def editbench(place: Path, shout: Path, *args: str) -> str:
    return python(sys.executable, "-m", "editbench.cli", *args, cwd=place, path=shout)


@pytest.fixture(scope="module")
def run(place: Path, shout: Path) -> Path:
    """Folder of the finished run."""
    editbench(place, shout, *RUN, *TRACKED)
    [folder] = (place / "results").glob("*/run.json")
    return folder.parent


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_the_run_is_scored_by_the_metric_with_the_settings_of_method_and_dataset(run: Path) -> None:
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert info["status"] == "done"
    made_with = info["provenance"]
    assert made_with["method"] == {"name": "shout", "hparams": "tuned", "config": {"loudness": 0.5}}
    assert (made_with["dataset"]["name"], made_with["model"]["name"]) == ("shouts", "murmur-tiny")
    assert made_with["versions"]["surprise"] == 3
    fact = info["metrics"]["surprise"]
    assert (fact["title"], fact["digits"], fact["seeds"], fact["range"]) == ("surprise in nats", 1, "max", None)
    rows = [row for row in lines(run / "scores.jsonl") if row["stage"] == "final" and "record" in row]
    assert len(rows) == 3 and all(row["status"] == "scored" for row in rows)
    assert all(row["scores"]["rewrite.surprise"] > 0 for row in rows)
    edits = lines(run / "edits.jsonl")
    assert [one["details"]["loudness"] for one in edits] == [0.5] * 3
    assert "ENGLISH" in (run / "scores.jsonl").read_text() + (run / "edits.jsonl").read_text() + json.dumps(info)


def test_the_tracker_has_seen_the_run(run: Path) -> None:
    seen = lines(run / "seen.jsonl")
    assert [seen[0]["call"], seen[-2]["call"], seen[-1]["call"]] == ["start", "table", "finish"]
    assert seen[0]["name"] == run.name and {"shout", "shouts", "murmur-tiny"} <= set(seen[0]["tags"])
    assert {one["step"] for one in seen if one["call"] == "log"} >= {1, 2, 3}
    assert all("final/rewrite.surprise" in row for row in seen[-2]["rows"])
    assert seen[-1]["status"] == "done" and seen[-1]["summary"]["final/records/scored"] == 3


def test_the_leaderboard_has_the_metrics_columns_and_facts(run: Path, place: Path, shout: Path) -> None:
    editbench(place, shout, "leaderboard", "results.dir=results")
    with (place / "results" / "leaderboard.csv").open(encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert (row["method"], row["hparams"], row["dataset"], row["status"]) == ("shout", "tuned", "shouts", "done")
    assert float(row["final.rewrite.surprise"]) > 0 and row["final.rewrite.surprise_n"] == "3"
    assert json.loads(row["metrics"])["surprise"]["title"] == "surprise in nats"
    from editbench.results.columns import column, mapping_in

    about = column("final.rewrite.surprise", mapping_in(row, "metrics"))
    assert (about.title, about.digits, about.higher_is_better, about.seeds) == (
        "edits: surprise in nats",
        1,
        False,
        "max",
    )


def commands(place: Path, shout: Path, several: list[list[str]]) -> list[tuple[int, str, str]]:
    """Status, output and errors of each command, all in one process."""
    out = python(sys.executable, "-c", COMMANDS, json.dumps(several), cwd=place, path=shout)
    return [tuple(json.loads(line)) for line in out.splitlines()]


def test_names_are_listed_with_the_packages_own(place: Path, shout: Path) -> None:
    kinds = {"methods": "shout", "datasets": "shouts", "metrics": "surprise", "trackers": "jsonl"}
    kinds["models"] = "murmur-tiny"  # its hparams are known
    done = commands(place, shout, [["list", kind, "--json"] for kind in kinds])
    for (status, out, _), (kind, name) in zip(done, kinds.items(), strict=True):
        listed = {row["name"]: row for row in map(json.loads, out.splitlines())}
        assert status == 0 and name in listed and len(listed) > 1, kind
    [(_, methods, _), (_, metrics, _)] = commands(place, shout, [["list", "methods"], ["list", "metrics"]])
    assert "Shout" in methods and "Negative log-likelihood" in metrics


UNKNOWN = {
    "method=shuot": "unknown method 'shuot'; did you mean 'shout'?",
    "dataset=shuots": "unknown dataset 'shuots'; did you mean 'shouts'?",
    "protocol.metrics=[surprize]": "unknown metric 'surprize'; did you mean 'surprise'?",
    "tracker=jsnol": "unknown tracker 'jsnol'; did you mean 'jsonl'?",
    "method.loudnes=1": "unknown key 'method.loudnes'; did you mean 'method.loudness'?",
    "dataset.cas=upper": "unknown key 'dataset.cas'; did you mean 'dataset.case'?",
    "dataset.case=lower": "case is 'lower'; it must be one of 'upper', 'kept'",
    "tracker.settings.fil=x": "unknown key 'tracker.settings.fil'; did you mean 'tracker.settings.file'?",
}


def test_unknown_names_get_the_nearest_of_the_package(place: Path, shout: Path) -> None:
    usual = [*RUN, "tracker=jsonl", "results.name=wrong"]
    several = [[one for one in usual if not one.startswith(f"{key.partition('=')[0]}=")] + [key] for key in UNKNOWN]
    for (status, _, errors), (override, message) in zip(commands(place, shout, several), UNKNOWN.items(), strict=True):
        assert status in (1, 2) and message in errors, (override, errors)
    assert not (place / "results" / "wrong").exists()
