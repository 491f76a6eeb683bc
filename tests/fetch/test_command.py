"""The command: what it prints, and that a second call fetches nothing."""

import json

import pytest

from editbench import cli
from editbench.fetch.command import lines
from editbench.fetched import fetched_folder


def fetched(name, **facts):
    folder = fetched_folder(name)
    folder.mkdir(parents=True)
    (folder / "source.json").write_text(json.dumps(facts))


def test_a_thing_that_is_there_is_shown_with_its_licence(capsys):
    fetched("counterfact", source="https://published/", licence="MIT", sha256="ab", records=3)
    assert cli.main(["fetch", "counterfact"]) == 0
    out = capsys.readouterr().out
    assert "fetched before; --again does it again" in out
    assert "licence    MIT" in out and "sha256     ab" in out and "records    3" in out
    assert "editbench run dataset=counterfact dataset.path=fetched" in out


def test_a_file_is_taken_and_shown(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("editbench.fetch.command._fetch", lambda name, given: fetched(name, source=given.name) or given)
    monkeypatch.setattr("editbench.fetch.command.read_source", lambda folder: {"source": folder.name})
    assert cli.main(["fetch", "smollm2-135m", "--from", str(tmp_path / "own.gguf")]) == 0
    assert "editbench run model=smollm2-135m" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["smollm2-135", "counterfac"])
def test_an_unknown_name_is_answered_with_the_nearest(name, capsys):
    assert cli.main(["fetch", name]) == 1
    assert "did you mean" in capsys.readouterr().err


def test_no_network_is_one_line(capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cli.main(["fetch", "smollm2-135m", "--from", "nowhere.whl"]) == 1
    assert capsys.readouterr().err.count("error: ") == 1


def test_lines_leave_out_what_is_unknown():
    assert lines({"source": "hub", "records": None, "other": 1}) == ["source     hub"]
