"""KnowEdit's layout: lists of answers, named groups of locality and portability."""

from editbench.records import EditRequest, Probe
from tests.datasets.rows import one

ROW = {
    "subject": "Lyon",
    "prompt": "The twin city of Lyon is",
    "target_new": "Manila",
    "ground_truth": ["Milan"],
    "portability": {
        "Reasoning": [{"prompt": "The country of Lyon's twin is", "ground_truth": [["Philippines", "PH"]]}],
        "Subject_Aliasing": [{"prompt": "The twin city of Lugdunum is", "ground_truth": [["Manila"]]}],
        "Logical_Generalization": [{"prompt": "Manila is twinned with", "ground_truth": [["Lyon"]]}],
    },
    "locality": {
        "Relation_Specificity": [{"prompt": "The country of Lyon is", "ground_truth": [["France", "French Republic"]]}],
        "Forgetfulness": None,  # as Parquet fills it
    },
    "cond": "Milan >> Manila",
}


def test_knowedit(tmp_path):
    record = one(tmp_path, "knowedit", ROW)
    assert record.request == EditRequest("0", "The twin city of Lyon is", "Lyon", "Manila", "Milan")
    assert record.probes == (
        Probe("locality", "The country of Lyon is", "France", ("French Republic",)),
        Probe("reasoning", "The country of Lyon's twin is", "Philippines", ("PH",)),
        Probe("alias", "The twin city of Lugdunum is", "Manila"),
        Probe("portability", "Manila is twinned with", "Lyon"),
    )
