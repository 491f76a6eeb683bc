"""Requests refuse what no editor can use; a prompt format goes around prompts and comes off again."""

import pytest

from editbench.records import EditError, EditRequest, Probe, PromptFormat, RecordError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target": " "}, "target is ' '; it must be a non-empty string"),
        ({"prompt": ""}, "prompt is ''; it must be a non-empty string"),
        ({"subject": "Bo"}, "subject 'Bo' is not in the prompt"),
        ({"subject": ""}, "subject '' is not in the prompt"),
    ],
)
def test_a_request_that_cannot_be_used(fields, message):
    with pytest.raises(RecordError, match=message):
        EditRequest(**{"id": "r", "prompt": "Ann lives in", "subject": "Ann", "target": "Rome", **fields})


def test_texts_are_composed():
    assert EditRequest("r", "Sa\u0303o is", "São", "e\u0301").subject == "São"
    assert Probe("locality", "e\u0301", None).prompt == "é"


def test_a_failed_edit_names_its_requests():
    error = EditError(["a", "b"], "loss is NaN", "NaN")
    assert str(error) == "edit of a, b failed: loss is NaN" and error.ids == ("a", "b")


def test_a_prompt_format():
    chat = PromptFormat.parse("[INST]{}[/INST]")
    assert chat == PromptFormat("[INST]", "[/INST]") and chat.apply("Who?") == "[INST]Who?[/INST]"
    assert chat.transform("[INST]Who?[/INST]", lambda prompt: f"Think. {prompt}") == "[INST]Think. Who?[/INST]"
    assert chat.transform("Who?", str.upper) == "WHO?"
    assert chat.plain("[INST]Who?[/INST]") == chat.plain("Who?") == PromptFormat().plain("Who?") == "Who?"
    assert chat.plain("[INST]Who?") == "[INST]Who?"
    assert PromptFormat.parse("{}") == PromptFormat() and PromptFormat().apply("{}") == "{}"


@pytest.mark.parametrize("text", ["[INST]", "{}{}", ""])
def test_a_format_without_one_place_for_the_prompt(text):
    with pytest.raises(ValueError, match="must have one {} where the prompt goes"):
        PromptFormat.parse(text)
