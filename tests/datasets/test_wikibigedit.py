"""The layouts of WikiBigEdit."""

from editbench.records import EditRequest, Probe
from tests.datasets.rows import one

HUB = {
    "tag": "update",
    "subject": "Crailing Church",
    "update": "In which county is Crailing Church?",
    "rephrase": "Crailing Church lies in which county?",
    "personas": "Arr, matey! Which county be Crailing Church in?",
    "ans": "Roxburghshire",
    "loc": "In which county is Carriden Church?",
    "loc_ans": "West Lothian",
    "mhop": "In which country is the county of Crailing Church?",
    "mhop_ans": "Scotland",
}


def test_wikibigedit_of_the_hub(tmp_path):
    record = one(tmp_path, "wikibigedit", HUB)
    assert record.request == EditRequest("0", HUB["update"], "Crailing Church", "Roxburghshire")
    assert record.probes == (
        Probe("paraphrase", HUB["rephrase"], "Roxburghshire"),
        Probe("paraphrase", HUB["personas"], "Roxburghshire"),
        Probe("locality", HUB["loc"], "West Lothian"),
        Probe("multi_hop", HUB["mhop"], "Scotland"),
    )


def test_wikibigedit_without_questions_beside_the_edit(tmp_path):
    row = {**HUB, "rephrase": "", "personas": None, "loc": None, "mhop": None, "mhop_ans": None}
    assert one(tmp_path, "wikibigedit", row).probes == ()


def test_wikibigedit_of_easyedit(tmp_path):
    row = {
        "prompt": HUB["update"],
        "target_new": "Roxburghshire",
        "subject": "Crailing Church",
        "rephrase_prompt": HUB["rephrase"],
        "locality_prompt": HUB["loc"],
        "locality_ground_truth": "West Lothian",
    }
    assert [probe.kind for probe in one(tmp_path, "wikibigedit", row).probes] == ["paraphrase", "locality"]
