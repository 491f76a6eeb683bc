"""CKnowEdit: Chinese records without a subject."""

from editbench.records import EditRequest, Probe
from tests.datasets.rows import one

ROW = {
    "id": "3",
    "knowledge_type": "古诗词",
    "prompt": "天街小雨润如酥，下一句是什么？",
    "target_old": "草色青青柳色黄。",
    "target_new": "草色遥看近却无。",
    "rephrase": ["“天街小雨润如酥”的下一句是？"],
    "portability": [{"prompt": "这首诗的作者是谁？", "answer": "韩愈"}],
    "locality": [{"prompt": "中国的首都是", "answer": "北京"}],
}


def test_cknowedit(tmp_path):
    record = one(tmp_path, "cknowedit", ROW)
    assert record.request == EditRequest("3", ROW["prompt"], None, "草色遥看近却无。", "草色青青柳色黄。")
    assert record.probes == (
        Probe("paraphrase", "“天街小雨润如酥”的下一句是？", "草色遥看近却无。"),
        Probe("locality", "中国的首都是", "北京"),
        Probe("portability", "这首诗的作者是谁？", "韩愈"),
    )
    assert one(tmp_path, "cknowedit", {**ROW, "title": "天街"}, fields={"subject": "title"}).request.subject == "天街"
