"""What callers hand to an editor, as requests."""

import logging

import pytest

from editbench.datasets.given import as_requests
from editbench.records import EditRecord, EditRequest, RecordError


def test_requests_are_made_of_dictionaries_and_records():
    request = EditRequest("r", "Ann lives in", "Ann", "Rome")
    fields = {
        "prompt": "Bo lives in",
        "subject": "Bo",
        "target_new": {"str": "Bonn"},
        "ground_truth": ["Oslo", "Kristiania"],
    }
    assert as_requests(request) == as_requests(EditRecord(request)) == as_requests([request]) == [request]
    assert as_requests(fields) == [EditRequest("0", "Bo lives in", "Bo", "Bonn", "Oslo")]
    assert [one.id for one in as_requests(({**fields, "case_id": 7}, request))] == ["7", "r"]
    assert as_requests({"prompt": "Born in", "target": 1962})[0].target == "1962"


def test_dictionaries_without_an_id_get_the_next_unused_one():
    fields, request = {"prompt": "Ann lives in", "target": "Rome"}, EditRequest("1", "Bo lives in", None, "Bonn")
    assert [one.id for one in as_requests([fields, {**fields, "id": 0}, request, fields])] == ["2", "0", "1", "3"]
    assert [one.id for one in as_requests([fields, request, fields], iter(["1", "4", "7"]))] == ["4", "1", "7"]
    assert as_requests({**fields, "id": "a"}, iter(["b"]))[0].id == "a"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("Ann lives in", "str cannot be edited; give an EditRequest"),
        ([3], "int at 0 cannot be edited; give an EditRequest, a record or a dictionary"),
        ({"prompt": "Ann lives in"}, "request 0 has no target; it has prompt"),
        (
            {"prompt": ["Ann lives in", "Bo lives in"], "target": ["Rome", "Oslo"]},
            "has 2 texts as prompt; give a dictionary for each request",
        ),
        ({"prompt": "Ann lives in", "target": float("nan")}, "request 0 has no target; it is nan"),
        ({"prompt": "Ann lives in", "target": True}, "field 'target': must be text, found true or false"),
        (
            {"prompt": "Ann lives in", "target": "Rome", "target_new": "Bonn"},
            "request 0 has target 'Rome' and target_new 'Bonn'; give one of them",
        ),
        (
            {"prompt": "Ann lives in", "target": "Rome", "taget_true": "Oslo"},
            "field 'taget_true': is no field of these records; did you mean 'target_true'",
        ),
        ([{"id": 1, "prompt": "a", "target": "b"}] * 2, "2 requests have the id '1'"),
        ([EditRequest("a", "Ann lives in", None, "Rome")] * 3, "3 requests have the id 'a'"),
    ],
)
def test_what_cannot_be_edited_says_so(given, message):
    with pytest.raises((TypeError, RecordError), match=message):
        as_requests(given)


def test_fields_that_nothing_reads_are_told(caplog):
    fields = {"prompt": "Ann lives in", "target": "Rome", "foo": 1, "answer": "x", "paraphrases": ["Ann is in"]}
    with caplog.at_level(logging.WARNING):
        as_requests([fields, fields])
    assert caplog.messages == ["note: ignored fields: foo, answer (did you mean target?)"]


def test_two_names_of_a_field_may_agree():
    given = {"prompt": "Ann lives in", "target": "Rome", "target_new": {"str": "Rome"}, "subject": ""}
    assert as_requests(given) == [EditRequest("0", "Ann lives in", None, "Rome")]
