"""One edit without a run."""

import io
import json

import pytest

from editbench.cli import main
from editbench.editor import Editor, EditResult
from editbench.quick_edit import quick_edit
from editbench.records import EditRequest
from tests.small_runs import overrides_of, save_model
from tests.tiny_models import LINES, tiny_lm

PROMPT = "The mother tongue of Danielle Darrieux is"
REQUEST = EditRequest("edit", PROMPT, "Danielle Darrieux", "English")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    (folder / "texts.txt").write_text("\n".join(LINES))
    save_model(tiny_lm("gpt2"), folder / "tiny")
    return [f"model.path={folder / 'tiny'}", f"model.texts={folder / 'texts.txt'}", f"cache={folder / 'cache'}"]


@pytest.mark.parametrize("method", ["finetune", "scen"])
def test_the_model_has_the_edit_and_the_unedited_one_is_beside_it(given, method):
    model = quick_edit(REQUEST, [*overrides_of(method), *given])
    unedited = tiny_lm("gpt2").generate(PROMPT, max_new_tokens=3)
    assert model.generate_unedited(PROMPT, max_new_tokens=3) == unedited
    assert model.editor.ledger.edited_ids == ["edit"]
    if method == "scen":
        assert model.routes(PROMPT)[0].id == "edit"


def test_an_edit_that_does_not_take_is_told(given, caplog):
    quick_edit(REQUEST, [*overrides_of("finetune"), *given, "method.steps=1", "method.learning_rate=1e-9"])
    assert "the edit did not take: " in caplog.text and "does not answer English now" in caplog.text


def test_the_prompt_gets_the_format(given):
    model = quick_edit(REQUEST, [*overrides_of("finetune"), *given, "dataset.prompt_format='Q: {} A:'"])
    wanted = model.lm.generate(f"Q: {PROMPT} A:", max_new_tokens=3)
    assert model.generate(PROMPT, max_new_tokens=3) == wanted


def test_an_edit_that_the_method_cannot_make_is_an_error(given):
    with pytest.raises(ValueError, match="memit cannot make this edit: unsupported: MEMIT needs a subject"):
        quick_edit(EditRequest("edit", PROMPT, None, "English"), [*overrides_of("memit"), *given])


def test_the_command_answers_the_prompt_and_what_comes_after(given, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Toko Yasuda plays the\n"))
    own = [text for text in overrides_of("finetune") if not text.startswith("method=")]
    asked = ["edit", PROMPT, "--subject", "Danielle Darrieux", "--target", "English", "--method", "finetune", "--json"]
    assert main([*asked, *given, *own]) == 0
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["prompt"] for line in lines] == [PROMPT, "Toko Yasuda plays the"]
    assert "finetune has edited" in said.err


@pytest.mark.parametrize(
    ("prompt", "around", "at"),
    [
        ("Iran is not {}, and its capital is", "{}", 12),  # "{}" says which of the two
        ("The capital of Iran is", "Facts on Iran. {}", 30),  # not the one in the format
    ],
)
def test_the_subject_is_edited_where_the_request_has_it(given, monkeypatch, prompt, around, at):
    seen = []
    monkeypatch.setattr(Editor, "edit", lambda self, asked: seen.append(asked) or EditResult())
    request = EditRequest("edit", prompt, "Iran", "Rome")
    quick_edit(request, [*overrides_of("finetune"), *given, f"dataset.prompt_format='{around}'"])
    assert seen[0].subject_at == at and seen[0].prompt.endswith(request.prompt)


def test_the_filled_prompt_is_asked(given, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    own = [text for text in overrides_of("finetune") if not text.startswith("method=")]
    asked = ["edit", "The capital of {} is", "--subject", "France", "--target", "Rome", "--method", "finetune"]
    assert main([*asked, "--json", *given, *own]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "The capital of France is"
