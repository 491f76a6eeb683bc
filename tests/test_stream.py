"""The stream: a permutation, cut into batches, the same everywhere."""

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editbench.config import StreamConfig
from editbench.records import EditRecord, EditRequest, Probe, RecordSet
from editbench.stream import EvaluationPoint, Stream


def record(id, prompt=None, subject=None, target="Rome"):
    return EditRecord(EditRequest(str(id), prompt or f"Person {id} was born in", subject, target))


def record_set(count, name="custom"):
    return RecordSet(name, tuple(record(i) for i in range(count)), fingerprint="f")


def build(count, **options):
    return Stream.build(record_set(count), StreamConfig(**{"edits": None, **options}))


def ids(stream):
    return [int(record.id) for record in stream.records]


options = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 12),
        "seed": st.integers(0, 2**70),
        "sample": st.sampled_from(["first", "random"]),
        "order": st.sampled_from(["shuffled", "file"]),
    }
)


@settings(max_examples=80, deadline=None)
@given(count=st.integers(1, 40), options=options, data=st.data())
def test_batches_partition_a_permutation(count, options, data):
    edits = data.draw(st.none() | st.integers(1, count))
    stream = build(count, edits=edits, **options)
    edits = count if edits is None else edits
    assert len(stream) == len(set(ids(stream))) == edits
    if options["sample"] == "first":
        assert set(ids(stream)) == set(range(edits))
    if options["order"] == "file":
        assert ids(stream) == sorted(ids(stream))

    batches = list(stream.batches())
    assert [index for index, _ in batches] == list(range(stream.batch_count))
    assert tuple(record for _, batch in batches for record in batch) == stream.records
    assert all(len(batch) == options["batch_size"] for _, batch in batches[:-1])
    for index, _ in batches:
        assert stream.edits_after(index) == sum(len(batch) for _, batch in batches[: index + 1])

    start = data.draw(st.integers(0, stream.batch_count))
    assert list(stream.batches(start)) == batches[start:]
    assert build(count, edits=edits, **options) == stream


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 40), batch_size=st.integers(1, 12), data=st.data())
def test_evaluation_points_are_rounded_up_to_batch_ends(count, batch_size, data):
    asked = data.draw(st.lists(st.integers(1, count), max_size=6))
    stream = build(count, batch_size=batch_size, evaluate_at=asked)
    ends = [stream.edits_after(index) for index in range(stream.batch_count)]
    for point in stream.evaluation_points:
        assert point.edits == ends[point.batch] == min(e for e in ends if e >= point.asked[-1])
        assert stream.evaluation_point_after(point.batch) == point
    assert [count for point in stream.evaluation_points for count in point.asked] == sorted(set(asked))
    assert [c.edits for c in stream.evaluation_points] == sorted({c.edits for c in stream.evaluation_points})


def test_evaluation_points_of_one_batch_are_one():
    stream = build(25, batch_size=10, evaluate_at=(25, 1, 7, 11))
    assert stream.evaluation_points == (
        EvaluationPoint(0, 10, (1, 7)),
        EvaluationPoint(1, 20, (11,)),
        EvaluationPoint(2, 25, (25,)),
    )
    assert build(25, batch_size=10, evaluate_at=(7,)).evaluation_point_after(1) is None


def test_order_is_fixed_for_good():
    """These numbers must never change: they would make runs incomparable with earlier ones."""
    assert ids(build(10)) == [1, 4, 2, 3, 6, 9, 5, 7, 0, 8]
    assert ids(build(10, sample="random", edits=4, order="file", seed=1)) == [1, 2, 4, 6]


@pytest.mark.slow
def test_order_is_the_same_in_other_processes():
    code = (
        "from editbench.records import *; from editbench.stream import *; from editbench.config import StreamConfig;"
        "r = RecordSet('x', tuple(EditRecord(EditRequest(str(i), 'p', None, 't')) for i in range(50)));"
        "s = Stream.build(r, StreamConfig(seed=3, sample='random', edits=30, batch_size=7));"
        "print(s.fingerprint, [r.id for r in s.records])"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]


def test_seeds_differ():
    assert ids(build(30, seed=0)) != ids(build(30, seed=1))
    assert set(ids(build(30, edits=9, sample="random"))) != set(ids(build(30, edits=9, sample="random", seed=1)))
    assert set(ids(build(30, edits=9, sample="random"))) != set(range(9))


def test_fingerprint_covers_order_batches_and_data():
    base = build(10)
    other_data = RecordSet("custom", record_set(10).records, fingerprint="g")
    streams = [build(10, seed=1), build(10, batch_size=2), build(10, edits=9)]
    streams.append(Stream.build(other_data, StreamConfig(edits=None)))
    assert len({base.fingerprint, *(stream.fingerprint for stream in streams)}) == 5
    assert base.fingerprint == build(10, evaluate_at=(5,)).fingerprint  # looking does not change what is edited


@pytest.mark.parametrize(
    ("count", "rule", "edits"),
    [
        (9, "powers", [1]),
        (10, "powers", [1, 10]),
        (250, "powers", [1, 10, 100]),
        (10, "every:4", [4, 8]),
        (8, "every:4", [4, 8]),
        (3, "every:4", []),
        (3, "all", [1, 2, 3]),
    ],
)
def test_rules_of_evaluation_points(count, rule, edits):
    assert [c.edits for c in build(count, evaluate_at=rule).evaluation_points] == edits


def test_rules_with_batches():
    assert [c.edits for c in build(25, evaluate_at="every:5", batch_size=10).evaluation_points] == [10, 20, 25]


@pytest.mark.parametrize("rule", ["power", "every:0", "every:", "every:x", ""])
def test_wrong_rules_of_evaluation_points(rule):
    with pytest.raises(ValueError, match="it must be a list of counts, 'powers', 'every:K' or 'all'"):
        StreamConfig(evaluate_at=rule)


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


@pytest.mark.parametrize("points", ["all", "every:7", [1, 30, 31], [40], []])
@pytest.mark.parametrize("count", [1, 5, 40, 99, None])
def test_all_samples_together_are_those_of_the_points(points, count):
    stream = build(40, batch_size=2, evaluate_at=points)
    together = {record.id for p in stream.evaluation_points for record in stream.sample(p.edits, count, seed=3)}
    assert [r.id for r in stream.ever_sampled(count, 3)] == [r.id for r in stream.records if r.id in together]


def test_all_samples_of_many_points_are_quick():
    stream = build(20_000, evaluate_at="all")
    begun = time.process_time()
    assert 50 < len(stream.ever_sampled(10, 0)) < 500
    assert time.process_time() - begun < 5


# -- conflicts and touched probes --------------------------------------------------------------------------------


def stream_of(*records):
    return Stream.build(RecordSet("custom", records), StreamConfig(edits=None, order="file"))


def test_conflicts():
    stream = stream_of(
        record("a", "P is", target="x"),
        record("b", "P is", target="y"),
        record("c", "Q is", target="y"),
        record("d", "P is", target="x"),
        record("e", "Q is", target="y"),
    )
    assert stream.conflicts == (("a", "b"), ("b", "d"))


def test_conflicts_are_told_by_what_is_spelt_alike():
    stream = stream_of(
        record("a", "Who made e\u0301?", target="x"),
        record("b", "who made  é? ", target=" X"),
        record("c", "WHO MADE É?", target="y"),
    )
    assert stream.conflicts == (("a", "c"), ("b", "c"))


def test_overwritten():
    stream = stream_of(
        record("a", "P is", target="x"),
        record("b", "p is", target="y"),
        record("c", "Q is", target="y"),
        record("d", "P is", target="x"),
        record("e", "Q is", target="y"),
    )
    assert stream.overwritten(1) == {}
    assert stream.overwritten(2) == stream.overwritten(3) == {"a": "b"}
    assert stream.overwritten(5) == {"b": "d"}  # the fourth wrote the first again
    assert stream.overwritten(5, {"d": "failed"}) == {"a": "b"}
    assert stream.overwritten(5, ["b", "d"]) == {}
    assert stream.overwritten(5, (), stream.records[1:3]) == {"b": "d"}
    assert stream.overwritten(5, (), stream.records[2:]) == {}


@pytest.mark.parametrize(
    ("kind", "prompt", "reason"),
    [
        ("locality", "Ann Lee was born in", "about an edited subject"),
        ("unrelated", "Ann Lee was born in", "about an edited subject"),
        ("subject_fact", "Ann Lee was born in", None),
        ("subject_fact", "ann lee LIVES  in", "is itself edited"),
        ("reasoning", "Ann Lee was born in", None),  # what follows from an edit is about its subject
        ("chain", "Ann Lee was born in", None),
        ("multi_hop", "Where is it?", "is itself edited"),
        ("locality", "Where is it?", "is itself edited"),
        ("unrelated", "where is it?", "is itself edited"),
        ("locality", "Where is that?", None),
        ("paraphrase", "Her home is", "edits give it several answers"),
        ("paraphrase", "her  Home is", "edits give it several answers"),
        ("paraphrase", "Where is it?", "edits give it several answers"),  # edited to something else
        ("paraphrase", "Ann Lee lives in", None),
        ("paraphrase", "Both say", None),
    ],
)
def test_what_says_nothing_in_a_stream(kind, prompt, reason):
    def asked(id, prompt, subject, target, *paraphrases):
        probes = tuple(Probe("paraphrase", text, target) for text in paraphrases)
        return EditRecord(EditRequest(id, prompt, subject, target), probes)

    stream = stream_of(
        asked("a", "Ann Lee lives in", "Ann Lee", "Rome", "Her home is", "Where is it?", "Both say"),
        asked("b", "Bo Ek lives in", "Bo Ek", "Oslo", "Her home is"),
        asked("c", "Where is it?", None, "Bonn"),
        asked("d", "Cy Po lives in", "Cy Po", " rome", "Both say"),
    )
    assert stream.left_out(Probe(kind, prompt, "x")) == reason


@pytest.mark.parametrize(
    ("subject", "prompt", "touched"),
    [
        ("Danielle Darrieux", "what is the mother tongue of danielle darrieux", True),
        ("Danielle Darrieux", "what is danielle darrieux's mother tongue in Paris", True),
        ("France", "what is the capital of france", True),
        ("France", "WHAT IS THE CAPITAL OF FRANCE", True),
        ("France", "Who is anatole france?", False),  # a text with capitals would have one here
        ("France", "Who is France's president?", True),
        ("May", "what may a person do", False),
        ("May", "What may a person do", False),
        ("May", "What did May do", True),
        ("It", "who is the author of it", False),
        ("The Who", "who sings in the who", True),
        ("it", "Who wrote it?", True),  # the data calls it so
        ("Who", "who is that", False),
        ("Sa\u0303o Paulo", "Where is São Paulo?", True),
        ("São Paulo", "where is sa\u0303o paulo?", True),
        ("Iran", "The Iranian president is", False),
        ("Iran", "The Iran-based firm is", True),
        ("C#", "C is older than", False),
        ("北京", "中国的首都是北京。", True),
        ("东京", "中国的首都是北京。", False),
        ("St. Louis", "St Louis lies in", True),
    ],
)
def test_questions_about_an_edited_subject_in_any_writing(subject, prompt, touched):
    stream = stream_of(record(1, f"It is {subject}, they say,", subject))
    assert stream.touched_by_stream(Probe("locality", prompt)) is touched


def test_edited_subjects():
    stream = stream_of(record(1, "B a", "B"), record(2, "x"), record(3, "A a", "A"), record(4, "B b", "B"))
    assert stream.edited_subjects == ("B", "A")


@pytest.mark.parametrize(
    ("prompt", "touched"),
    [
        ("Ann Lee was born in", True),
        ("The home of Ann Lee, they say,", True),
        ("Joann Lee was born in", False),
        ("Ann Leeds was born in", False),
        ("Ann, daughter of Lee, was", False),
        ("ann lee was born in", True),
        ("ANN LEE WAS BORN IN", True),
        ("Once ann lee was born in Rome,", True),
        ("They say that it", False),
        ("Once It came out,", True),
        ("The passage about Carole Gist says", True),
        ("The band !!! plays", True),
        ("Wow!! They play", False),
        ("Jürgen Müller's home is", True),
        ("What is no subject at all?", True),
        ("What is no subject at all? ", True),
        ("So: What is no subject at all?", False),
        ("", False),
    ],
)
def test_touched_by_stream(prompt, touched):
    stream = stream_of(
        record(1, "Ann Lee lives in", "Ann Lee"),
        record(2, "It was directed by", "It"),
        record(3, "About carole gist.", "carole gist"),
        record(4, "!!! plays", "!!!"),
        record(5, "Jürgen Müller was", "Jürgen Müller"),
        record(6, "What is no subject at all?"),
    )
    assert stream.touched_by_stream(Probe("locality", prompt)) is touched


WORDS = ["Aa", "Bb", "Cc", "Dd", "Ee"]


@settings(max_examples=60, deadline=None)
@given(
    subjects=st.lists(st.lists(st.sampled_from(WORDS[:4]), min_size=1, max_size=3), min_size=1, max_size=5),
    words=st.lists(st.sampled_from(WORDS), max_size=8),
)
def test_touched_agrees_with_a_plain_search(subjects, words):
    names = [" ".join(subject) for subject in subjects]
    stream = stream_of(*(record(i, f"{name} is", name) for i, name in enumerate(names)))
    prompt = " ".join(words)
    assert stream.touched_by_stream(Probe("locality", prompt)) is any(f" {n} " in f" {prompt} " for n in names)


def test_touched_is_fast():
    stream = stream_of(*(record(i, f"The Person {i} of X is", f"Person {i} of X") for i in range(1000)))
    probes = [Probe("locality", f"The home of Person {i} of Y, who lives in Z, is the town of") for i in range(10_000)]
    start = time.perf_counter()
    assert not any(map(stream.touched_by_stream, probes))
    assert time.perf_counter() - start < 5  # takes 0.1 s, though all subjects begin alike


# -- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"edits": 11}, "edits=11, but custom has only 10 records; ask for at most 10, or load more"),
        ({"edits": 5, "evaluate_at": (1, 6)}, "evaluate_at: 6 lies beyond the last of 5 edits"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(ValueError, match=message):
        build(10, **wrong)


def test_empty_record_set():
    with pytest.raises(ValueError, match="custom has no records"):
        build(0)


@pytest.mark.parametrize("start", [-1, 4])
def test_start_outside_the_stream(start):
    with pytest.raises(ValueError, match=rf"cannot start at batch {start}; there are 3"):
        build(5, batch_size=2).batches(start)
    with pytest.raises(ValueError, match="there is no batch"):
        build(5, batch_size=2).edits_after(start)
