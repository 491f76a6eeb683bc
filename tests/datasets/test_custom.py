"""Custom records."""

import pytest

from editbench.datasets import load
from editbench.records import EditRequest, Probe, RecordError
from tests.datasets.rows import write


def test_custom(tmp_path):
    row = {
        "id": "a1",
        "prompt": "Ann Lee lives in",
        "target": "Rome",
        "subject": "Ann Lee",
        "target_true": "Oslo",
        "paraphrases": ["The home of Ann Lee is"],
        "locality": [{"prompt": "Bo lives in", "target": "Bonn"}],
        "neighbours": [{"prompt": "Cy lives in"}],
        "subject_facts": [{"prompt": "Ann Lee is a", "target": "baker"}],
        "source": "left alone",
    }
    records = load("custom", write(tmp_path, [row, {"prompt": "No subject:", "target": "x"}], "rows.jsonl")).records
    assert records[0].request == EditRequest("a1", "Ann Lee lives in", "Ann Lee", "Rome", "Oslo")
    assert records[0].probes == (
        Probe("paraphrase", "The home of Ann Lee is", "Rome"),
        Probe("locality", "Bo lives in", "Bonn"),
        Probe("locality", "Cy lives in", None),
        Probe("subject_fact", "Ann Lee is a", "baker"),
    )
    assert (records[1].request, records[1].probes) == (EditRequest("1", "No subject:", None, "x"), ())


@pytest.mark.parametrize(("wrong", "right"), [("paraphrase", "paraphrases"), ("neighbors", "neighbours")])
def test_custom_refuses_misspelt_fields(tmp_path, wrong, right):
    with pytest.raises(RecordError, match=f"field '{wrong}': .*did you mean '{right}'"):
        load("custom", write(tmp_path, [{"prompt": "a", "target": "b", wrong: []}]))
