"""The unedited model is asked the questions of the records that a run scores, and of no others."""

from editbench.config import ProtocolConfig, StreamConfig
from editbench.evaluation.scoring_plan import ScoringPlan
from editbench.records import EditRecord, EditRequest, RecordSet
from editbench.stream import Stream

CAPITALS = (
    EditRequest(str(i), f"The capital of Land {i} is", f"Land {i}", f"City {i % 3}", "Paris") for i in range(20)
)
RECORDS = RecordSet("few", tuple(EditRecord(request, relation="capital") for request in CAPITALS), fingerprint="f")


def plan(stages, evaluate_at=(), first=None, sample=None, **stream):
    config = StreamConfig(edits=20, order="file", evaluate_at=evaluate_at, **stream)
    protocol = ProtocolConfig(stages=stages, final_first=first, retention_sample=sample)
    return ScoringPlan(Stream.build(RECORDS, config), protocol, seed=0)


def asked(of):
    return [int(record.id) for record in of.asked()]


def test_what_is_scored_is_asked():
    assert asked(plan(["immediate"])) == asked(plan(["final"])) == asked(plan([], mode="single")) == [*range(20)]
    assert asked(plan(["final"], first=3)) == [0, 1, 2]
    assert asked(plan([])) == []
    assert asked(plan([], evaluate_at=[4, 8])) == [*range(8)]
    assert asked(plan(["final"], first=3, evaluate_at=[5])) == [*range(5)]


def test_samples_and_the_end_are_asked_together():
    of = plan(["final"], evaluate_at=[10, 20], first=2, sample=3)
    scored = {*of.records_at_the_end(20), *of.records_at_point(10), *of.records_at_point(20)}
    assert asked(of) == sorted(int(record.id) for record in scored) != [*range(20)]
    assert of.records_at_the_end(1) == of.stream.records[:1]


def test_the_revision_of_a_scored_edit_is_asked_too():
    of = plan(["final"], first=2, revisions=0.3)
    revision_of = {edit: revision.id for edit, revision in of.stream.revisions.items()}
    first = [record.id for record in of.stream.records[:2]]
    assert set(first) & revision_of.keys()
    assert {record.id for record in of.asked()} == {*first, *(revision_of[id] for id in first if id in revision_of)}


def test_as_many_answers_as_are_scored_have_a_right_one():
    assert plan(["immediate"]).most_answers(0) == plan([], mode="single").most_answers(0) == 20
    assert plan(["immediate", "final"], first=3).most_answers(0) == 23
    assert plan(["final"], first=3, evaluate_at=[5, 10], sample=4).most_answers(0) == 3 + 4 + 4
    assert plan(["final"], first=3, evaluate_at=[5, 10], sample=4).most_answers(2) == 3 + 4 + 4 + 2 * (1 + 2 + 1)
    revised = plan(["final"], first=2, revisions=0.3)
    assert revised.most_answers(0) > 2  # a revision also asks whether the earlier answer returns
