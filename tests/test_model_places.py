"""A model's place: embedded, a folder, a hub id as it is."""

import pytest

from editbench.model_places import SHIPPED_MODELS, model_place, shipped_model_path


@pytest.mark.parametrize("name", sorted(SHIPPED_MODELS))
def test_an_embedded_model_lies_in_the_package(name):
    place = model_place(name)
    assert place == shipped_model_path(name) and (place / "config.json").is_file()


def test_a_folder_is_itself_and_a_hub_id_stays(tmp_path):
    assert model_place(str(tmp_path)) == tmp_path
    assert model_place("owner/name") == "owner/name"


def test_an_unknown_embedded_model_is_refused():
    with pytest.raises(ValueError, match="unknown pocket model 'pocket-gpt3'"):
        shipped_model_path("pocket-gpt3")
