"""Places of fetched things: the cache's rule, and the command in the error for what is not there."""

import json
import os
from pathlib import Path

import pytest

from editbench import compose, fetched, single_run
from editbench.fetch.staging import staging
from editbench.fetched import DATASETS, MODELS, NotFetchedError, cache_folder, find_dataset, find_model
from editbench.files import file_digests
from editbench.model_places import model_place


def put(name):
    folder = fetched.fetched_folder(name)
    folder.mkdir(parents=True)
    (folder / "source.json").write_text("{}")
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDITBENCH_CACHE", str(tmp_path))
    return tmp_path


def test_the_cache_is_where_the_variable_says_or_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("EDITBENCH_CACHE", "~/mine")
    assert cache_folder() == Path.home() / "mine"
    monkeypatch.delenv("EDITBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == tmp_path / "editbench"
    assert compose.compose(["method=unedited"]).cache == tmp_path / "editbench"


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_cache_that_can_be_no_folder_is_refused(monkeypatch, tmp_path, place):
    (tmp_path / "file").touch()
    message = f"the cache cannot be {tmp_path / place}: {tmp_path / 'file'} is no folder; give one with EDITBENCH_CACHE"
    with pytest.raises(ValueError, match=message):
        compose.compose(["method=unedited", f"cache={tmp_path / place}"])
    monkeypatch.setenv("EDITBENCH_CACHE", str(tmp_path / place))
    with pytest.raises(ValueError, match=message):
        compose.compose(["method=unedited"])
    with pytest.raises(ValueError, match=message), staging("zsre"):
        pass
    assert compose.compose(["method=unedited", f"cache={tmp_path / 'new' / 'below'}"]).cache == tmp_path / "new/below"


def test_folders_of_a_run_may_begin_at_home():
    node = compose.compose_node(["method=unedited", compose.written_out("results.dir=~/mine")], hydra=True)
    assert node.hydra.sweep.dir == str(Path.home() / "mine" / ".sweep")
    config = compose.compose(["method=unedited", "results.dir=~/mine", "cache=~/kept"])
    assert config.results.dir == str(Path.home() / "mine") and config.cache == Path.home() / "kept"
    assert config.folder.parent == Path.home() / "mine"


def test_what_is_there_is_found(cache):
    folder = put(MODELS[0])
    assert find_model(MODELS[0]) == model_place(MODELS[0]) == folder
    put("zsre")
    assert find_dataset("zsre") == cache / "fetched" / "zsre" / DATASETS["zsre"]


def test_a_fetched_file_that_was_damaged_is_named(cache):
    folder = put("zsre")
    file = folder / DATASETS["zsre"]
    file.write_text("[1]")
    (folder / "source.json").write_text(json.dumps({"files": file_digests(folder) | {"source.json": "x"}}))
    with pytest.raises(ValueError, match="source.json is damaged: editbench fetch zsre --again"):
        find_dataset("zsre")
    (folder / "source.json").write_text(json.dumps({"files": {file.name: file_digests(file)[""]}}))
    assert find_dataset("zsre") == file
    file.write_text("[2]")
    with pytest.raises(ValueError, match="zsre_mend_eval.json is damaged: editbench fetch zsre --again"):
        find_dataset("zsre")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_not_there_names_the_command(cache, name):
    with pytest.raises(NotFetchedError, match=f"^{name} is not on this machine yet: editbench fetch {name}$"):
        find_model(name)


def test_a_folder_without_its_facts_was_not_fetched(cache):
    (cache / "fetched" / "counterfact").mkdir(parents=True)
    with pytest.raises(NotFetchedError, match="editbench fetch counterfact"):
        find_dataset("counterfact")


def test_a_run_says_so_before_it_makes_a_folder(cache, tmp_path):
    overrides = ["method=unedited", "model=smollm2-135m", "dataset.path=pocket", f"results.dir={tmp_path / 'results'}"]
    with pytest.raises(NotFetchedError, match="editbench fetch smollm2-135m"):
        single_run.run(overrides)
    assert not (tmp_path / "results").exists()


def test_a_fetched_model_edits_fetched_records():
    for dataset in DATASETS:
        config = compose.compose(["method=unedited", "model=smollm2-135m", f"dataset={dataset}"])
        assert (config.model.path, config.model.name) == ("smollm2-135m", "smollm2-135m")
        assert config.dataset.path == "fetched"
        assert compose.compose(["method=unedited", f"dataset={dataset}"]).dataset.path == "pocket"


def test_a_users_path_is_left_alone(tmp_path):
    assert model_place("owner/name") == "owner/name"
    assert model_place(str(tmp_path)) == tmp_path


def test_a_cache_that_cannot_be_written_to_is_refused_before_anything_is_computed(monkeypatch, tmp_path):
    can = os.access  # permissions do not bind the user that tests often have
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != tmp_path and can(place, mode))
    with pytest.raises(ValueError, match=f"{tmp_path / 'new'}: {tmp_path} cannot be written to; give one with"):
        compose.compose(["method=unedited", f"cache={tmp_path / 'new'}"])
