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
        Probe("subject_fact", "The country of Lyon is", "France", ("French Republic",)),
        Probe("reasoning", "The country of Lyon's twin is", "Philippines", ("PH",)),
        Probe("alias", "The twin city of Lugdunum is", "Manila"),
        Probe("portability", "Manila is twinned with", "Lyon"),
    )


def test_groups_of_locality_are_of_other_subjects_or_of_the_edited_one(tmp_path):
    asked = {"Forgetfulness": "{}'s twin is not only Milan but", "Distracting": "Rome is in", "near": "Bonn is in"}
    groups = {name: [{"prompt": prompt, "ground_truth": [["Italy"]]}] for name, prompt in asked.items()}
    found = one(tmp_path, "knowedit", {**ROW, "locality": groups, "portability": {}}).probes
    assert [(probe.kind, probe.prompt) for probe in found] == [
        ("locality", "Rome is in"),
        ("locality", "Bonn is in"),
        ("subject_fact", "Lyon's twin is not only Milan but"),
    ]


def test_wikibio(tmp_path):
    row = {
        "text": "This is a Wikipedia passage about ann lee. ",
        "concept": "ann lee",
        "labels": "She lived in Rome.",
        "locality": {"Relation_Specificity": [{"prompt": "ann lee was born in", "ground_truth": ["Bonn"]}]},
    }
    record = one(tmp_path, "knowedit", row)
    assert record.request == EditRequest("0", row["text"].strip(), "ann lee", "She lived in Rome.")
    assert record.probes == (Probe("subject_fact", "ann lee was born in", "Bonn"),)
