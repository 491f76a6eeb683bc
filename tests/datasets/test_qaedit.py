"""QAEdit: subjects in another case, marks behind answers, ids that sources share."""

from editbench.datasets import load
from editbench.records import Probe
from tests.datasets.rows import write

ROW = {
    "id": 7,
    "source": "NQ",
    "prompt": "who has the most points in NBA history?",
    "target": "Wilt Chamberlain *",
    "subject": "most points in nba history",
    "rephrase": "Which player holds the record for points?",
    "locality": [{"loc": "who protects police officers", "loc_ans": "Michael"}],
}


def test_qaedit(tmp_path):
    record, other = load("qaedit", write(tmp_path, [ROW, {**ROW, "source": "TriviaQA"}])).records
    assert (record.id, other.id) == ("NQ-7", "TriviaQA-7")
    assert (record.request.subject, record.request.target) == ("most points in NBA history", "Wilt Chamberlain")
    assert record.probes == (
        Probe("paraphrase", ROW["rephrase"], "Wilt Chamberlain"),
        Probe("locality", "who protects police officers", "Michael"),
    )
