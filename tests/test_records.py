"""Requests refuse what no editor can use; a prompt format goes around prompts and comes off again."""

from dataclasses import replace

import pytest

from editbench.records import EditError, EditRequest, Probe, PromptFormat, RecordError, formatted


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target": " "}, "target is ' '; it must be a non-empty string"),
        ({"prompt": ""}, "prompt is ''; it must be a non-empty string"),
        ({"target": "\u200b"}, r"target is '\\u200b', which shows nothing; it must have a text"),
        ({"target": " \u00ad\ufeff\u2060 "}, "which shows nothing"),
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


@pytest.mark.parametrize("subject", ["Iran", None])
def test_braces_in_a_format_are_no_subjects_place(subject):
    around = PromptFormat("<system>Answer {} if unsure\n", " ?\t")
    asked = formatted(EditRequest("r", "Iran lies in", subject, "Asia"), around)
    assert (
        asked.prompt == "<system>Answer {} if unsure\nIran lies in ?" and around.plain(asked.prompt) == "Iran lies in"
    )
    assert (asked.subject, replace(asked, target="Europe").prompt if subject else asked.prompt) == (
        subject,
        asked.prompt,
    )
    assert formatted(Probe("paraphrase", "Iran is in"), around).prompt == "<system>Answer {} if unsure\nIran is in ?"


def test_a_format_is_in_composed_form_as_prompts_are():
    around = PromptFormat.parse("Re\u0301ponse: {}\\t ")
    assert around == PromptFormat("R\u00e9ponse: ", "")
    asked = formatted(EditRequest("r", "{} lies in", "Iran", "Asia"), around)
    assert around.plain(asked.prompt) == "Iran lies in"


@pytest.mark.parametrize("text", ["[INST]", "{}{}", ""])
def test_a_format_without_one_place_for_the_prompt(text):
    with pytest.raises(ValueError, match="must have one {} where the prompt goes"):
        PromptFormat.parse(text)


def test_the_subject_takes_the_spelling_and_the_place_that_the_prompt_gives():
    request = EditRequest("r", "Who was Carole Gist ", " carole gist", " Rome ")
    assert (request.prompt, request.subject, request.target) == ("Who was Carole Gist", "Carole Gist", "Rome")
    request = EditRequest("r", "Iran and what {} is", "Iran", "Rome")
    assert (request.prompt, request.subject_at) == ("Iran and what Iran is", 14)
    assert (
        EditRequest("r", "The Iranian president of {} is", "Iran", "x").subject_at is None
    )  # where it is found anyway
    assert EditRequest("r", "Answer:\n", None, "Rome").prompt == "Answer:\n"
    assert replace(request, prompt="In Iran and what Iran is", subject_at=17).subject_at == 17


@pytest.mark.parametrize(
    ("prompt", "subject", "message"),
    [
        (
            "The capital of {} is",
            None,
            r"\{\} in 'The capital of \{\} is' is filled by nothing; give the record a subject",
        ),
        ("{} and {} are", "Ann", r"has several \{\}; one says where the subject goes"),
        ("The capital of Sao Tome is", "São Tomé", "SMALL LETTER A WITH TILDE"),
        ("The twin of [SUBJECT] is", "Lyon", r"write \{\} where the subject goes"),
        ("The twin of {subject} is", "Lyon", r"write \{\} where the subject goes"),
    ],
)
def test_a_prompt_that_cannot_be_filled_says_why(prompt, subject, message):
    with pytest.raises(RecordError, match=message):
        EditRequest("r", prompt, subject, "Rome")


def test_line_breaks_of_a_format_and_formats_in_formats():
    assert PromptFormat.parse(r"Q: {}\nA: ") == PromptFormat("Q: ", "\nA:")
    inner = PromptFormat("Q: ", "?").inside(PromptFormat("<user>", "<bot>"))
    assert inner.apply("Who") == "<user>Q: Who?<bot>"
