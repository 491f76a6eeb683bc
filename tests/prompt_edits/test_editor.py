"""What all prompt editors do: facts that fit, deletions, bytes, and a resume from the ledger alone."""

import pytest

from editbench import EditRequest, Ledger
from editbench.prompt_edits.editor import PromptConfig
from tests.small_runs import REQUESTS, editor_of
from tests.tiny_models import POSITIONS, tiny_lm

SETTINGS = {"fact": "{prompt} {target}. ", "lead": "Now: "}


def edited(lm=None, ledger=None, requests=REQUESTS, **settings):
    editor = editor_of("in_context", lm or tiny_lm("gpt2"), ledger, **SETTINGS, **settings)
    for request in requests:
        assert editor.edit([request]).applied == [request.id]
    return editor


def test_facts_stand_before_the_prompt_the_newest_last():
    editor = edited(requests=REQUESTS[:2])
    facts = "The mother tongue of Danielle Darrieux is English. Toko Yasuda plays the guitar, they say. "
    assert editor.asked("Lyon is") == f"{facts}Now: Lyon is"
    assert edited(requests=[]).asked("Lyon is") == "Lyon is"


def test_the_oldest_facts_are_left_out_where_all_do_not_fit():
    lm = tiny_lm("gpt2")
    size = lambda text: len(lm.encode(text).ids)  # noqa: E731
    prompt = "Lyon" + " is" * (POSITIONS - 60)
    editor = edited(lm, answer_tokens=8)
    asked = editor.asked(prompt)
    facts = [editor.fact_text(fact.prompt, fact.target) for fact in editor.facts()]
    kept = [fact for fact in facts if fact in asked]
    assert 0 < len(kept) < 4 and kept == facts[-len(kept) :]
    assert size(asked) + 8 <= POSITIONS < size(facts[-len(kept) - 1] + asked) + 8
    assert editor.asked("is" + " is" * POSITIONS) == "is" + " is" * POSITIONS  # there is room for none


def test_a_deleted_edit_is_gone_with_the_older_ones_of_its_prompt():
    newer = EditRequest("e", REQUESTS[0].prompt, None, "Polish")
    editor = edited(requests=[*REQUESTS, newer])
    assert "Polish" in editor.asked("x") and "English" not in editor.asked("x")
    editor.delete("e")
    assert editor.ledger.edited_ids == ["b", "c", "d"]
    assert not {"Polish", "English"} & set(editor.asked("x").split())
    with pytest.raises(ValueError, match="there is no edit 'e'"):
        editor.delete("e")
    editor.ledger.rollback(2)
    assert "English" in editor.asked("x")


@pytest.mark.parametrize("method", ["in_context", "retrieval"])
def test_the_ledger_alone_brings_the_facts_back(method, tmp_path):
    lm = tiny_lm("gpt2")
    first = editor_of(method, lm, Ledger(lm, tmp_path))
    first.edit(REQUESTS[:3])
    first.edit(REQUESTS[3:])
    first.delete("b")
    assert first.state_beside_ledger() == {}
    second = editor_of(method, lm, Ledger(lm, tmp_path))
    second.ledger.replay()
    second.recall({})
    for request in REQUESTS:
        assert second.asked(request.prompt) == first.asked(request.prompt)
    assert [fact.id for fact in second.facts()] == ["a", "c", "d"]
    assert second.footprint() == first.footprint()


def test_bytes_are_those_of_texts_and_vectors():
    lm = tiny_lm("gpt2")
    text = sum(len((r.prompt + r.target).encode()) for r in REQUESTS)
    assert edited(lm).footprint().host == text
    editor = editor_of("retrieval", lm)
    editor.edit(REQUESTS)
    assert editor.footprint().host == text + 4 * 32 * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"answer_tokens": 0}, "answer_tokens is 0"), ({"fact": "{prompt}"}, "must have")],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        PromptConfig(**settings)
