"""The files of a search: where they go, what they say, and that a run uses and shows them."""

import json
from types import SimpleNamespace

import pytest
import yaml

from editbench import registry
from editbench.tuning import hparams_file
from editbench.tuning.study import Study
from editbench.tuning.trial import Outcome


def config(method="finetune", model="Tiny", dataset="zsre"):
    parts = {"method": method, "model": model, "dataset": dataset}
    return SimpleNamespace(
        **{name: SimpleNamespace(name=value) for name, value in parts.items()},
        stream=SimpleNamespace(batch_size=2),
        protocol=SimpleNamespace(headline={"reliability": "rewrite.exact_match"}),
    )


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package of a method in a checkout."""
    folder = tmp_path / "checkout" / "methods" / "finetune"
    (folder / "hparams").mkdir(parents=True)
    (tmp_path / "checkout" / ".git").mkdir()
    monkeypatch.setattr(registry, "hparams_folder", lambda method: folder / "hparams")
    return folder


def test_settings_go_into_a_writable_checkout_or_where_the_user_says(package, tmp_path):
    where = hparams_file.destination
    assert where(config(), None, False, False) == package / "hparams" / "tuned" / "tiny.yaml"
    assert where(config(), None, True, False) == package / "hparams" / "tuned" / "tiny-zsre.yaml"
    assert where(config(), tmp_path / "out", True, False) == tmp_path / "out" / "tiny-zsre.yaml"
    (tmp_path / "checkout" / ".git").rmdir()
    with pytest.raises(ValueError, match="in no writable checkout; say where the settings go with --out DIR"):
        where(config(), None, False, False)


def test_a_file_that_no_search_wrote_is_not_replaced_unasked(package):
    file = package / "hparams" / "tuned" / "tiny.yaml"
    file.parent.mkdir()
    file.write_text("layer: 1")
    with pytest.raises(ValueError, match="tiny.yaml is there, and no search wrote it; move it to .*by_hand"):
        hparams_file.destination(config(), None, False, False)
    assert hparams_file.destination(config(), None, False, True) == file
    file.with_suffix(".json").write_text("{}")
    assert hparams_file.destination(config(), None, False, False) == file


@pytest.fixture
def written(tmp_path, package):
    search = SimpleNamespace(
        config=config(), method="finetune", records=["ab", "cd"], model_hash="m",
        fixed={"norm_bound": None, "texts": ["a b", "c: d"], "negatives": "${pocket_prompts:2}"},
    )  # fmt: skip
    study = Study.open(tmp_path / "study", {"method": "finetune"})
    study.set_untuned({"learning_rate": 1e-5}, Outcome(0.1, "done"))
    study.best = lambda: study.untuned
    file = package / "hparams" / "tuned" / "tiny.yaml"
    hparams_file.write(file, search, study, seed=5)
    return file


def test_the_files_say_what_was_found_and_how(written):
    settings = yaml.safe_load(written.read_text())
    assert settings == {
        "norm_bound": None, "texts": ["a b", "c: d"], "negatives": "${pocket_prompts:2}", "learning_rate": 1e-5,
    }  # fmt: skip
    assert written.read_text().startswith("# Found by `editbench tune`, 20")
    assert "0 trials of 2 edits of zsre (split tune), seed 5" in written.read_text()
    how = json.loads(written.with_suffix(".json").read_text())
    assert how["records"] == ["ab", "cd"] and how["records_hash"] == hparams_file.digest(["ab", "cd"])
    assert (how["trials"], how["seed"], how["score"], how["objective"]) == (0, 5, 0.1, "score_penalised")
    assert how["settings"] == settings
    tuning = registry.read_tuning(written.with_suffix(".json"))
    assert tuning.settings == settings and tuning.records == ["ab", "cd"]
    assert tuning.facts["trials"] == 0 and "records" not in tuning.facts


def test_a_file_that_was_changed_by_hand_is_not_called_tuned(written):
    written.write_text(written.read_text() + "steps: 3\n")
    with pytest.raises(ValueError, match="tiny.yaml is not what tiny.json says was found: it was changed by hand"):
        registry.read_tuning(written.with_suffix(".json"))
