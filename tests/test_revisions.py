"""Revisions: which edits correct which, with what target, and what a run says of them."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editbench import single_run
from editbench.config import StreamConfig
from editbench.records import EARLIER_EDIT, ORIGINAL, PARAPHRASE, EditRecord, EditRequest, Probe, RecordSet
from editbench.results.columns import measure
from editbench.results.leaderboard import read_row
from editbench.revisions import with_revisions
from editbench.stream import Stream
from tests.methods.test_conformance import METHODS
from tests.small_runs import KINDS, each, overrides_of
from tests.test_editing_loop import comparable, lines, make, tiny_folder  # noqa: F401


def record(i, target="Rome", relation=None, true="Paris"):
    prompt = f"Person {i} was born in"
    request = EditRequest(str(i), prompt, f"Person {i}", target, true)
    probes = (Probe(PARAPHRASE, f"The home of {i} is", target), Probe("locality", "Lyon is in", "France"))
    return EditRecord(request, probes, relation=relation)


def records(count, targets=3, relations=2):
    return [record(i, f"Town {i % targets}", f"P{i % relations}") for i in range(count)]


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 40),
    share=st.sampled_from([0.0, 0.1, 0.2, 1 / 3, 0.5]),
    batch_size=st.integers(1, 7),
    seed=st.integers(0, 99),
    targets=st.integers(1, 4),
)
def test_a_revision_corrects_an_edit_of_an_earlier_batch_once(count, share, batch_size, seed, targets):
    given = records(count, targets)
    stream = with_revisions(given, share, batch_size, seed)
    assert len(stream) == count
    assert [r for r in stream if r.revises is None] == given[: count - sum(r.revises is not None for r in stream)]
    revised = [r for r in stream if r.revises is not None]
    assert len(revised) <= int(count * share + 1e-9) and len({r.revises for r in revised}) == len(revised)
    assert not revised or targets > 1
    places = {r.id: at for at, r in enumerate(stream)}
    by_id = {r.id: r for r in given}
    assert len(places) == count
    for r in revised:
        old, at = by_id[r.revises], places[r.id]
        assert places[old.id] // batch_size < at // batch_size
        assert (r.request.prompt, r.request.subject) == (old.request.prompt, old.request.subject)
        known = {o.request.target for o in stream[:at] if o.relation == old.relation}
        assert r.request.target in known - {old.request.target, old.request.target_true}
    for shorter in range(count):
        assert with_revisions(given[:shorter], share, batch_size, seed) == stream[:shorter]


def test_the_share_is_reached_and_seeds_differ():
    given = records(100)
    streams = [with_revisions(given, 0.2, 1, seed) for seed in (0, 1)]
    assert [sum(r.revises is not None for r in stream) for stream in streams] == [20, 20]
    assert streams[0] != streams[1]
    assert with_revisions(given, 0.0, 1, 0) == tuple(given)


def test_without_a_relation_any_other_target_will_do():
    stream = with_revisions([record(0, "Rome"), record(1, "Oslo"), record(2)], 0.34, 1, 0)
    assert (stream[2].revises, stream[2].request.target) in (("0", "Oslo"), ("1", "Rome"))


def test_the_original_answer_is_no_revision():
    assert with_revisions([record(0, "Rome", true="Oslo"), record(1, "Oslo", true="Rome")], 0.5, 1, 0)[1].id == "1"


def test_a_revision_asks_whether_earlier_answers_return():
    stream = with_revisions([record(0, "Rome"), record(1, "Oslo"), record(2)], 0.34, 1, 0)
    old = stream[int(stream[2].revises)]
    assert stream[2].probes == (
        Probe(PARAPHRASE, old.probes[0].prompt, stream[2].request.target),
        old.probes[1],
        Probe(EARLIER_EDIT, old.request.prompt, old.request.target),
        Probe(ORIGINAL, old.request.prompt, "Paris"),
    )
    for kind in (EARLIER_EDIT, ORIGINAL):
        assert measure(f"{kind}.exact_match", {"exact_match": {"higher_is_better": True}}).higher_is_better is False


def stream_of(share=0.34, **options):
    given = RecordSet("custom", tuple(record(i, f"Town {i % 3}") for i in range(6)), fingerprint="f")
    return Stream.build(given, StreamConfig(edits=None, order="file", revisions=share, **options))


def test_a_stream_knows_its_revisions_and_they_are_no_conflicts():
    stream, plain = stream_of(), stream_of(share=0.0)
    assert len(stream) == 6 and len(stream.revisions) == 2 and stream.conflicts == ()
    assert stream.fingerprint != plain.fingerprint and plain.revisions == {}
    for old, revision in stream.revisions.items():
        at, here = ([r.id for r in stream.records].index(id) for id in (old, revision.id))
        assert stream.overwritten(here + 1)[old] == revision.id and old not in stream.overwritten(here)
        assert not any(stream.left_out(probe) for r in stream.records for probe in r.probes)
        now = stream.asked_now(stream.records[at], stream.overwritten(here + 1))
        assert now.request == revision.request and {p.kind for p in now.probes} == {PARAPHRASE, "locality"}
        assert stream.asked_now(stream.records[at], stream.overwritten(here)) is stream.records[at]
        assert stream.asked_now(stream.records[at], stream.overwritten(here + 1, [revision.id])) is stream.records[at]


def test_a_record_with_the_id_of_a_revision_is_refused():
    # The first alone has another target to be revised with, and its revision is the fifth edit.
    plain = [record(0, "Rome"), record(1, "Oslo", true="Rome"), *(record(i, "Oslo", "P") for i in range(2, 6))]

    def stream(at):
        clash = replace(plain[at], request=replace(plain[at].request, id="0 revised"))
        return with_revisions([*plain[:at], clash, *plain[at + 1 :]], 0.2, 1, 0)

    message = "the record '0' has the id '0 revised', and so has a record of the data; rename that one, or leave out"
    for before_or_behind in (3, 4):
        with pytest.raises(ValueError, match=message):
            stream(before_or_behind)
    assert [r.id for r in stream(5)] == ["0", "1", "2", "3", "0 revised", "4"]  # that record is not in the stream


@pytest.mark.parametrize("wrong", [-0.1, 0.6])
def test_a_share_that_cannot_be(wrong):
    with pytest.raises(ValueError, match="stream.revisions is .*; it must be a share from 0 to 0.5"):
        StreamConfig(revisions=wrong)
    with pytest.raises(ValueError, match="leave out stream.revisions=0.2"):
        StreamConfig(mode="single", revisions=0.2)


REVISED = ["stream.revisions=0.34", "stream.edits=3", "stream.order=file"]


@pytest.mark.parametrize("method", each(METHODS, fast=KINDS))
def test_every_method_is_asked_what_holds_and_what_returns(make, method):  # noqa: F811
    outcome = single_run.run(make(method=REVISED, settings=overrides_of(method)))
    provenance = json.loads((outcome.folder / "run.json").read_text())["provenance"]
    ((old, new),) = provenance["stream"]["revisions"]
    assert new == f"{old} revised" and provenance["stream"]["conflicts"] == []
    rows = {(r["stage"], r["record"]): r for r in lines(outcome.folder, "scores.jsonl") if "record" in r}
    final, earlier = rows["final", new], rows["final", old]
    assert {r["status"] for r in rows.values()} == {"scored"}
    for kind in (EARLIER_EDIT, ORIGINAL):
        assert {f"{kind}.exact_match", f"{kind}.nll_contrast"} <= final["scores"].keys()
    assert earlier["against"] == new and "against" not in final and "against" not in rows["immediate", old]
    target = {probe["target"] for probe in final["probes"] if probe["kind"] == "rewrite"}
    assert {probe["target"] for probe in earlier["probes"] if probe["kind"] in ("rewrite", PARAPHRASE)} == target
    assert earlier["scores"] == {
        k: v for k, v in final["scores"].items() if k.split(".")[0] not in (EARLIER_EDIT, ORIGINAL)
    }
    row = read_row(outcome.folder)
    assert (row["scored"], row["skipped"], row["coverage"]) == (3, 0, 1)
    assert row["final.earlier_edit.exact_match_n"] == row["final.original.exact_match_n"] == 1


def test_where_the_revision_fails_the_earlier_edit_counts(make, monkeypatch):  # noqa: F811
    from editbench.methods.rome import ROME

    monkeypatch.setattr(ROME, "refusal", lambda self, request: "no" if "revised" in request.id else None)
    outcome = single_run.run(make(method=REVISED, settings=overrides_of("rome")))
    rows = {r["record"]: r for r in lines(outcome.folder, "scores.jsonl") if r["stage"] == "final" and "record" in r}
    assert [(id, row["status"], "against" in row) for id, row in rows.items()] == [
        *(("0", "scored", False), ("1", "scored", False)),
        (next(id for id in rows if "revised" in id), "unsupported", False),
    ]


def test_a_longer_stream_with_revisions_goes_on(make):  # noqa: F811
    more = ["stream.revisions=0.34", "stream.sample=random"]
    parts = {"method": more, "settings": overrides_of("memit")}
    single_run.run(make("stream.edits=3", **parts))
    longer = single_run.run(make("stream.edits=6", **parts)).folder
    assert json.loads((longer / "run.json").read_text())["provenance"]["continued"]["edits"] == 3
    fresh = single_run.run(make("stream.edits=6", "results.continue_from=never", results="fresh", **parts)).folder
    assert comparable(longer) == comparable(fresh)
