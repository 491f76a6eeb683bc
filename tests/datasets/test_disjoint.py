"""No record, prompt or text serves two ends."""

import pytest

from editbench.datasets import disjoint, load
from editbench.records import EditRequest, PromptFormat
from tests.datasets.rows import ROME, write

PLAIN = PromptFormat()


def test_the_hash_is_of_the_fact_however_it_is_spelt():
    one = EditRequest("a", "Ann was born in", "Ann", "Rome", "Oslo")
    same = EditRequest("b", "ANN was  born in", "ANN", "Paris")
    other = EditRequest("a", "Ann lives in", "Ann", "Rome", "Oslo")
    assert disjoint.record_hash(one, PLAIN) == disjoint.record_hash(same, PLAIN) != disjoint.record_hash(other, PLAIN)
    form = PromptFormat("[INST]", "[/INST]")
    inside = EditRequest("a", "[INST]Ann was born in[/INST]", "Ann", "Rome")
    assert disjoint.record_hash(inside, form) == disjoint.record_hash(one, PLAIN)


def test_records_on_which_settings_were_tuned_are_found():
    tuned = load("counterfact", "pocket", limit=3)
    more = load("counterfact", "pocket", limit=5)
    hashes = disjoint.record_hashes(tuned.records, tuned.prompt_format)
    assert hashes == sorted(hashes) and len(set(hashes)) == 3
    assert disjoint.tuned_on(more.records, PLAIN, hashes) == [record.id for record in tuned.records]
    assert disjoint.tuned_on(load("counterfact", "pocket", split="tune").records, PLAIN, hashes) == []


def test_what_a_method_learns_from_may_not_test_it(tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("Home is here.\nRain falls.\n")
    records = load("counterfact", write(tmp_path, [ROME]), plain_path=str(texts), prompt_format="[INST]{}[/INST]")
    tested = disjoint.tested_prompts(records, records.records) | disjoint.scored_texts(records)
    disjoint.keep_apart("method.negatives", ["Di Po speaks"], tested)
    for text, other in (
        ("Bo Ek  SPEAKS", "a prompt of record '12'"),
        ("The mother tongue of Ann Lee is", "a prompt of record '12'"),
        ("rain falls.", "the perplexity text plain[1]"),
    ):
        with pytest.raises(ValueError, match=r"method.negatives\[1\], ") as error:
            disjoint.keep_apart("method.negatives", ["Di Po speaks", text], tested)
        assert other in str(error.value)


def test_unrelated_questions_are_tests(tmp_path):
    records = load("counterfact", "pocket", limit=1, unrelated_path="pocket")
    question = records.unrelated[0].prompt
    assert disjoint.tested_prompts(records, records.records)[question.casefold()] == "an unrelated question"
