"""Mistakes that users make: each is one line on standard error, without a traceback, and a status other than 0."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from editbench import cli
from tests.small_runs import counterfact_rows

pytestmark = pytest.mark.slow

RUN = ("run", "method=unedited", "results.dir=results")
CUSTOM = (*RUN, "dataset=custom")
ENDPOINT = (*RUN, "protocol.judge.model=mine")
MISTAKES: list[tuple[tuple[str, ...], str]] = [
    # commands
    (("runn",), "did you mean 'run'"),
    (("list", "method"), "did you mean 'methods'"),
    (("leaderboard",), "no results folder at results"),
    (("leaderboard", "dir=x"), "is not understood"),
    (("report", "nowhere"), "no results folder at nowhere"),
    (("clean", "nowhere"), "no results folder at nowhere"),
    (("compare", "nowhere", "nowhere"), "nowhere"),
    (("edits", "nowhere"), "nowhere"),
    (("ask", "nowhere", "What?"), "nowhere"),
    (("forget", "nowhere", "1", "--out", "x"), "nowhere"),
    (("export", "nowhere", "--to", "lora", "--out", "x"), "nowhere"),
    (("submit", "nowhere", "--out", "x"), "nowhere"),
    (("edits", "records.json"), "records.json"),
    (("ask", "folder", "What?"), "folder"),
    (("fetch", "gpt5"), "gpt5"),
    (("fetch", "counterfact", "--from", "nowhere.json"), "nowhere.json"),
    (("covariance", "export", "nowhere", "--out", "x"), "nowhere"),
    (("covariance", "import", "nowhere.npz"), "nowhere.npz"),
    (("covariance", "import", "records.json"), "records.json"),
    (("leaderboard", "folder", "--where", "metod=rome"), "metod"),
    (("leaderboard", "folder", "--where", "="), "="),
    (("leaderboard", "folder", "--where", "edits>many"), "'many' is no number"),
    (("verify", "nowhere"), "nowhere holds no run"),
    (("explain", "stream.edit"), "did you mean 'stream.edits'"),
    (("explain", "stream.edits", "method=romee"), "did you mean 'rome'"),
    # names and keys
    (("run", "method=romee"), "did you mean 'rome'"),
    (("run", "method="), "method"),
    (("run", "=rome"), "=rome"),
    (("run", "method"), "method"),
    (("run", "method:rome"), "method:rome"),
    (("run", "method=rome", "method.lr=1"), "did you mean 'method.learning_rate'"),
    (("run", "rome.lr=1"), "did you mean"),
    (("run", "model=gpt5"), "unknown model 'gpt5'"),
    (("run", "model=meta-llama/Llama-2-7b-hf"), "model.path"),
    (("run", "dataset=counterfacts"), "did you mean 'counterfact'"),
    (("run", "protocol=memitt"), "did you mean 'memit'"),
    (("run", "experiment=pocket/table"), "needs a plus sign"),
    (("run", "+experiment=tables"), "unknown experiment 'tables'"),
    (("run", "launcher=slurm"), "unknown launcher 'slurm'"),
    (("run", "tracker=wandbb"), "did you mean 'wandb'"),
    (("run", "hparams=publishd"), "did you mean 'published'"),
    ((*RUN, "hparams=published"), "hparams=published"),
    (("run", "stream.edit=3"), "did you mean 'stream.edits'"),
    (("run", "--config-dir", "nowhere"), "no such folder"),
    # values
    ((*RUN, "stream.edits="), "stream.edits"),
    ((*RUN, "stream.edits=many"), "stream.edits"),
    ((*RUN, "stream.edits=1.5"), "stream.edits"),
    ((*RUN, "stream.edits=0"), "stream.edits"),
    ((*RUN, "stream.seed=-1"), "stream.seed"),
    ((*RUN, "stream.edits=1,2"), "needs -m"),
    (("run", "-m", "stream.edits=[1"), 'stream.edits is "[1"; it must be a whole number'),
    ((*RUN, "stream.order=random"), "one of 'shuffled', 'file'"),
    ((*RUN, "stream.evaluate_at=5"), "stream.evaluate_at"),
    ((*RUN, "stream.evaluate_at=[a]"), "stream.evaluate_at"),
    ((*RUN, "stream.stop_when=[nan]"), "nan"),
    ((*RUN, "stream.revisions=2"), "stream.revisions"),
    ((*RUN, "protocol.metrics=exact_match"), "protocol.metrics"),
    ((*RUN, "protocol.stages=[end]"), "unknown stage 'end'"),
    ((*RUN, "protocol.headline=[1]"), "protocol.headline"),
    ((*RUN, "results.name=a/b"), "not a folder name"),
    ((*RUN, "results.dir="), "results.dir is ''"),
    ((*RUN, "threads=0"), "threads"),
    ((*RUN, "cache=records.json"), "records.json"),
    ((*RUN, "model.dtype=float8"), "float8"),
    ((*RUN, "model.device=cuda:99"), "cuda:99"),
    ((*RUN, "model.device=gpu"), "gpu"),
    ((*RUN, "model.path="), "model.path is ''"),
    ((*RUN, "model.path=folder"), "folder"),
    ((*RUN, "model.path=nowhere"), "nowhere"),
    ((*RUN, "model.path=records.json"), "records.json"),
    (("run", "method=rome", "method.layer=first"), "first"),
    (("run", "method=memit", "method.layers=3"), "layers"),
    (("run", "method=memit", "method.layers=[]"), "layers"),
    (("run", "method=external_weights"), "method.path=DIR"),
    # the judge
    ((*RUN, "protocol.metrics=[exact_match,judge]"), "protocol.judge.model=PATH"),
    ((*RUN, "protocol.judge.modl=pocket"), "did you mean 'protocol.judge.model'"),
    ((*RUN, "protocol.judge=pocket"), "as in protocol.judge.NAME=VALUE"),
    ((*RUN, "protocol.judge.url=http://localhost:1/v1"), "needs the judge's name there"),
    ((*ENDPOINT, "protocol.judge.url=localhost:8000"), "no address of an endpoint"),
    ((*ENDPOINT, "protocol.judge.url=http://me:secret@localhost/v1"), "has a user, a password"),
    ((*ENDPOINT, "protocol.judge.url=http://127.0.0.1:9/v1/chat/completions"), "must end before"),
    ((*ENDPOINT, "protocol.judge.url=http://127.0.0.1:9/v1", "protocol.judge.key_variable=NO_SUCH"), "NO_SUCH"),
    ((*ENDPOINT, "protocol.judge.url=http://127.0.0.1:9/v1", "protocol.judge.key_variable=sk-1"), "name of an env"),
    ((*ENDPOINT, "protocol.judge.max_tokens=0"), "protocol.judge.max_tokens is 0"),
    ((*ENDPOINT, "protocol.judge.timeout=soon"), "it must be a number"),
    ((*RUN, "protocol.judge.model=nowhere", "stream.edits=1"), "the judge cannot be loaded"),
    # records
    (CUSTOM, "dataset.path"),
    ((*CUSTOM, "dataset.path="), "dataset.path is ''"),
    ((*CUSTOM, "dataset.path=nowhere.json"), "nowhere.json"),
    ((*CUSTOM, "dataset.path=empty.json"), "empty.json"),
    ((*CUSTOM, "dataset.path=broken.json"), "broken.json"),
    ((*CUSTOM, "dataset.path=编辑.json"), "编辑.json"),
    ((*CUSTOM, "dataset.path=run=1 (a).json"), "run=1 (a).json"),
    ((*CUSTOM, "dataset.path=records.json", "dataset.split=test"), "test"),
    ((*CUSTOM, "dataset.path=records.json", "dataset.encoding=utf9"), "utf9"),
    ((*CUSTOM, "dataset.path=records.json", "dataset.prompt_format=Q:"), "prompt_format"),
    ((*RUN, "dataset.path=other.json"), "other.json"),
    ((*RUN, "dataset.path=records.json", "stream.edits=99"), "99"),
    # edit
    (("edit", "The capital of France is", "--target", "Rome", "--subject", "Spain"), "Spain"),
    (("edit", "", "--target", "Rome"), "prompt"),
    (("edit", "The capital of France is", "--target", "", "--subject", "France"), "target"),
    (("edit", "Where?", "--target", "Rome", "--method", "romee"), "did you mean 'rome'"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "folder").mkdir()
    (folder / "records.json").write_text(json.dumps(list(counterfact_rows(3))))
    (folder / "empty.json").write_text("")
    (folder / "broken.json").write_text('[{"prompt": "a"')
    (folder / "other.json").write_text('[{"a": 1}]')
    for name in ("编辑.json", "run=1 (a).json"):
        (folder / name).write_text('[{"prompt": "The capital of France is"}]', encoding="utf-8")
    return folder


@pytest.mark.parametrize(("arguments", "part"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...],
    part: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    try:
        status = cli.main(arguments)
    except SystemExit as end:  # argparse
        status = end.code
    shown = capfd.readouterr()
    assert status in (1, 2), shown
    errors = [line for line in shown.err.splitlines() if not line.startswith(("note:", "usage:", "   "))]
    assert len(errors) == 1 and "rror" in errors[0] and part in errors[0], shown.err
    assert "Traceback" not in shown.err and "hydra.cc" not in shown.err


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["list", "metrics"]])
def test_a_reader_that_closes_the_pipe_is_no_error(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        assert cli.main(arguments) == 141


def test_a_file_that_may_not_be_read_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    read = Path.read_bytes

    def refused(self: Path) -> bytes:
        if self.name == "records.json":
            raise PermissionError(13, "Permission denied", str(self))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert cli.main([*CUSTOM, "dataset.path=records.json"]) in (1, 2)
    errors = capfd.readouterr().err
    assert "records.json" in errors and "Traceback" not in errors
