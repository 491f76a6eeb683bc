"""A run is rebuilt from its config and the verifier's own things, and from nothing that it names by a path."""

import json

import pytest

from editbench import compose
from editbench.submission import rebuilt
from editbench.submission.claim import CannotSay, Refused, copy_of, read_claim
from editbench.submission.rebuilt import rebuild
from tests.small_runs import overrides_of


@pytest.fixture
def claim(claimed, tmp_path):
    return read_claim(copy_of(claimed("scen"), tmp_path / "copy"))


def test_paths_of_the_maker_are_asked_for_and_places_to_write_to_are_dropped(claim, places, tmp_path):
    claim.config["method"]["bank_directory"] = str(tmp_path / "bank")
    config = rebuilt._config(claim, {**places, "model.covariance": "mine"}, tmp_path, to_edit=True)
    assert config.method.settings.bank_directory is None and config.model.covariance == "mine"
    assert not (tmp_path / "bank").exists()
    claim.config["model"]["covariance"] = "/etc/passwd"
    claim.config["protocol"]["ability"]["include_path"] = "/etc"
    with pytest.raises(CannotSay, match="--path model.covariance=YOURS --path protocol.ability.include_path=YOURS"):
        rebuilt._config(claim, places, tmp_path, to_edit=True)


def test_names_of_editbench_s_own_things_need_no_path(tmp_path):
    plain = json.loads(json.dumps(compose.compose(overrides_of("rome")).deciding()))
    assert rebuilt._settings_of_places(plain, "rome") == []
    assert {"model.path", "dataset.path", "model.texts"} <= set(rebuilt._settings_of_places(plain, "rome", every=True))


def test_unknown_methods_settings_and_versions_cannot_be_checked(claim, places, tmp_path):
    claim.provenance["versions"]["questions"] = 99
    with pytest.raises(CannotSay, match="other versions of questions"):
        rebuild(claim, places, tmp_path, to_edit=False)
    claim.config["method"]["wings"] = 2
    with pytest.raises(CannotSay, match="its config cannot be used"):
        rebuild(claim, places, tmp_path, to_edit=False)
    claim.config["method"]["name"] = "dance"
    with pytest.raises(CannotSay, match="'dance' is not installed"):
        rebuild(claim, places, tmp_path, to_edit=False)


def test_other_records_are_refused(claim, places, tmp_path):
    claim.provenance["dataset"]["hash"] = "0" * 32
    with pytest.raises(Refused, match="the dataset is another"):
        rebuild(claim, places, tmp_path, to_edit=False)


def test_edits_of_another_order_and_unknown_records_are_refused(claim, places, tmp_path):
    whole = rebuild(claim, places, tmp_path, to_edit=False)
    with pytest.raises(Refused, match="the stream has no record 'x'"):
        whole.records_of(["0", "x"])
    claim.edits[0]["ids"].reverse()
    with pytest.raises(Refused, match="not those of the stream, in their order"):
        rebuild(claim, places, tmp_path, to_edit=False)
