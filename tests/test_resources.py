"""Resources of an editor: texts by source, made on the first use, the same for a seed."""

from pathlib import Path

import pytest
import torch

from editbench import resources
from editbench.config import ModelConfig
from editbench.costs import TEXTS
from editbench.records import EditRequest, PromptFormat
from editbench.resources import Resources
from tests.tiny_models import tiny_lm


@pytest.fixture(scope="module")
def lm():
    return tiny_lm("gpt2")


def built(lm, tmp_path, **settings):
    return Resources.build(lm, ModelConfig("tiny", **settings), tmp_path, 3, PromptFormat("[", "]"))


def test_the_settings_of_the_model_are_handed_on(lm, tmp_path):
    made = built(lm, tmp_path, templates=["{}"], covariance="c.safetensors")
    assert (made.templates, made.covariance, made.cache, made.seed) == (["{}"], "c.safetensors", tmp_path, 3)
    assert made.prompt_format == PromptFormat("[", "]")


def test_texts_come_from_a_file_the_world_or_the_model(lm, tmp_path):
    (tmp_path / "plain.txt").write_text("One line.\nAnother line.\n")
    texts = built(lm, tmp_path, texts=str(tmp_path / "plain.txt")).texts
    assert list(texts) == ["One line.", "Another line."] and (len(texts), texts[1:]) == (2, ["Another line."])
    assert len(built(lm, tmp_path, texts="pocket").texts) > 100
    assert list(built(lm, tmp_path, texts="self", texts_tokens=1).texts) == resources.sample_texts(lm, 1, 3)


def test_texts_are_made_once_and_when_they_are_read(lm, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(resources, "sample_texts", lambda *arguments: calls.append(arguments) or ["a"])
    made = built(lm, tmp_path, texts="self", texts_tokens=7)
    assert not calls
    assert [*made.texts, *made.texts] == ["a", "a"] and calls == [(lm, 7, 3)]


def test_sampled_texts_are_read_by_a_later_process_and_count_as_much(lm, tmp_path, monkeypatch):
    def texts(seed=3, tokens=7):
        made = Resources.build(lm, ModelConfig("tiny", texts_tokens=tokens), tmp_path, seed, PromptFormat())
        return list(made.texts), made.costs

    monkeypatch.setattr(resources, "sample_texts", lambda lm, tokens, seed: [f"{tokens} {seed}"])
    first, costs = texts()
    assert list(costs.computed) == [TEXTS] and not costs.read
    monkeypatch.setattr(resources, "sample_texts", lambda *arguments: ["anew"])
    again, read = texts()
    assert again == first == ["7 3"] and (read.read, dict(read.computed)) == (costs.computed, {})
    assert texts(seed=4)[0] == texts(tokens=8)[0] == ["anew"]
    for file in (tmp_path / "texts").iterdir():
        file.write_text(file.read_text().replace("7 3", "7 4"))
    with pytest.warns(UserWarning, match="sampled again"):
        assert texts()[0] == ["anew"]


def test_sampled_texts_depend_on_the_seed_alone(lm, monkeypatch):
    monkeypatch.setattr(resources, "BATCH", 4)
    monkeypatch.setattr(resources, "LENGTH", 8)
    torch.manual_seed(0)
    state, first = torch.get_rng_state(), resources.sample_texts(lm, 40, 1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert resources.sample_texts(lm, 40, 1) == first != resources.sample_texts(lm, 40, 2)
    assert len(first) == 8  # two rounds


def test_the_hash_of_a_request_is_that_of_its_fact_in_any_format():
    request, plain = EditRequest("a", "Lyon is in", "Lyon", "Spain"), Resources()
    inside = Resources(prompt_format=PromptFormat("[INST] ", " [/INST]"))
    other = EditRequest("b", "[INST] Lyon is in [/INST]", "Lyon", "Italy")
    assert plain.hash_of(request) == inside.hash_of(other) != plain.hash_of(other)


def test_what_is_shown_of_resources_is_short():
    assert len(repr(Resources(texts=["many words"] * 1000, load_training_records=list))) < 300


@pytest.mark.parametrize(("name", "given"), [("texts", "One text."), ("texts", Path("a.txt")), ("templates", "{}")])
def test_one_text_is_not_read_letter_by_letter(name, given):
    with pytest.raises(TypeError, match=f"{name} of Resources is .*; give a list of texts"):
        Resources(**{name: given})
