"""The layouts of CounterFact."""

from editbench.datasets import load
from editbench.records import EditRequest, Probe
from tests.datasets.rows import EASYEDIT, ROME, one, write


def test_counterfact_easyedit(tmp_path):
    record = one(tmp_path, "counterfact", EASYEDIT)
    assert record.request == EditRequest("11", "The mother tongue of Ann Lee is", "Ann Lee", "English", "French")
    assert record.probes == (
        Probe("paraphrase", "Ann Lee speaks", "English"),
        Probe("locality", "Bo Ek speaks", "Swedish"),
    )


def test_counterfact_rome(tmp_path):
    record = one(tmp_path, "counterfact", ROME)
    assert record.request == EditRequest("12", "The mother tongue of Ann Lee is", "Ann Lee", "English", "French")
    assert record.probes == (
        Probe("paraphrase", "Ann Lee speaks", "English"),
        Probe("paraphrase", "Home. Ann Lee's language is", "English"),
        Probe("locality", "Bo Ek speaks", "French"),
        Probe("locality", "Cy Or speaks", "French"),
        Probe("subject_fact", "Ann Lee works as a", "baker"),
    )


def test_counterfact_fills_the_subject_in_once(tmp_path):
    rewrite = {**ROME["requested_rewrite"], "prompt": "{} wrote {}", "subject": "Ann {} "}
    record = one(tmp_path, "counterfact", {**ROME, "requested_rewrite": rewrite})
    assert (record.request.prompt, record.request.subject) == ("Ann {}  wrote {}", "Ann {}")


def test_layouts_may_be_mixed_in_a_file(tmp_path):
    assert [r.id for r in load("counterfact", write(tmp_path, [EASYEDIT, ROME])).records] == ["11", "12"]
