"""HalluEditBench: a table of facts with questions over several of them."""

import csv

from editbench.datasets import load
from editbench.records import EditRequest, Probe

ROW = {
    "topic": "volcano",
    "subject": "Cerro Macá",
    "relation": "made from material",
    "object": "basalt",
    "question": "What is Cerro Macá made of?",
    "output_llama": "Granite",
    "multiple_choices": "['basalt', 'granite']",
    "paraphrased_question": "From what is Cerro Macá made?",
    "yes_question": "Is Cerro Macá made from basalt?",
    "no_question": "Is Cerro Macá made from granite?",
    "locality_question": "Where is Cerro Macá?",
    "reversed_relation_question": "What is made from basalt?",
    "question_2hop": "What mineral is in the basalt of Cerro Macá?",
    "answer_2hop": "plagioclase",
    "question_3hop": "",
    "answer_3hop": "",
}


def test_halluedit(tmp_path):
    with (tmp_path / "facts.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ROW)
        writer.writeheader()
        writer.writerow(ROW)
    loaded = load("halluedit", tmp_path / "facts.csv")
    (record,) = loaded.records
    assert record.request == EditRequest("0", ROW["question"], "Cerro Macá", "basalt") and not loaded.ignored
    assert record.relation == "made from material"
    assert record.probes == (
        Probe("paraphrase", ROW["paraphrased_question"], "basalt"),
        Probe("subject_fact", ROW["locality_question"]),
        Probe("multi_hop", ROW["question_2hop"], "plagioclase"),
        Probe("portability", ROW["yes_question"], "Yes"),
        Probe("portability", ROW["no_question"], "No"),
        Probe("portability", ROW["reversed_relation_question"], "Cerro Macá"),
    )
