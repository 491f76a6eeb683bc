"""Checkpoints by rule, and samples of the records so far."""

import pytest

from editbench.records import EditRecord, EditRequest, RecordSet
from editbench.stream import Stream, StreamSettings


def build(count, **options):
    records = tuple(EditRecord(EditRequest(f"r{i}", f"Place {i} is in", None, "Spain")) for i in range(count))
    return Stream.build(RecordSet("custom", records), StreamSettings(**options))


@pytest.mark.parametrize(
    ("count", "rule", "edits"),
    [
        (9, "powers", [1]),
        (10, "powers", [1, 10]),
        (250, "powers", [1, 10, 100]),
        (10, "every:4", [4, 8]),
        (8, "every:4", [4, 8]),
        (3, "every:4", []),
    ],
)
def test_rules(count, rule, edits):
    assert [c.edits for c in build(count, evaluate_at=rule).checkpoints] == edits


def test_rules_with_batches():
    assert [c.edits for c in build(25, evaluate_at="every:5", batch_size=10).checkpoints] == [10, 20, 25]


@pytest.mark.parametrize("rule", ["power", "every:0", "every:", "every:x", ""])
def test_wrong_rules(rule):
    with pytest.raises(ValueError, match="is no list of counts, 'powers' or 'every:K'"):
        StreamSettings(evaluate_at=rule)


def test_a_sample_is_seeded_in_stream_order_and_keeps_its_records():
    stream = build(200)
    early, late = stream.sample(100, 20, seed=0), stream.sample(110, 20, seed=0)
    assert len(early) == 20 and set(early) <= set(stream.records[:100])
    assert [stream.records.index(r) for r in early] == sorted(stream.records.index(r) for r in early)
    assert len(set(early) & set(late)) >= 10
    assert early == stream.sample(100, 20, seed=0) != stream.sample(100, 20, seed=1)


def test_a_sample_of_all():
    stream = build(5)
    assert stream.sample(3, None, 0) == stream.sample(3, 3, 0) == stream.sample(3, 9, 0) == stream.records[:3]
