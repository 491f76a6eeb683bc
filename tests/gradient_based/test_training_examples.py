"""Examples of training records: their paraphrases or own prompts, and questions whose answers should stay."""

from editbench.gradient_based.training_examples import digest_of, examples_of
from editbench.records import LOCALITY, PARAPHRASE, SUBJECT_FACT, EditRecord, EditRequest, Probe

REQUEST = EditRequest("a", "Lyon is in", "Lyon", "Spain")
PROBES = (
    Probe(PARAPHRASE, "Lyon lies in", "Spain"),
    Probe(LOCALITY, "Nice is in", "France"),
    Probe(LOCALITY, "Nobody knows"),
    Probe(SUBJECT_FACT, "The twin city of Lyon is", "Milan"),
)


def texts(requests):
    return [(r.prompt, r.target) for r in requests]


def test_questions_of_a_record():
    (one,) = examples_of([EditRecord(REQUEST, PROBES)], own_prompt=False)
    assert texts(one.rewrites) == [("Lyon lies in", "Spain")] and texts(one.kept) == [("Nice is in", "France")]
    (both,) = examples_of([EditRecord(REQUEST, PROBES)], own_prompt=True)
    assert texts(both.rewrites) == [("Lyon is in", "Spain"), ("Lyon lies in", "Spain")]
    two = examples_of([EditRecord(REQUEST, PROBES)] * 2, own_prompt=True)[1]
    assert texts(two.rewrites) == [("Lyon lies in", "Spain"), ("Lyon is in", "Spain")]
    (bare,) = examples_of([EditRecord(REQUEST)], own_prompt=False)
    assert texts(bare.rewrites) == [("Lyon is in", "Spain")] and bare.kept == ()


def test_the_digest_is_of_all_texts():
    whole = digest_of(examples_of([EditRecord(REQUEST, PROBES)], own_prompt=False))
    assert whole == digest_of(examples_of([EditRecord(REQUEST, PROBES)], own_prompt=False))
    assert whole != digest_of(examples_of([EditRecord(REQUEST, PROBES[:1])], own_prompt=False))
    assert whole != digest_of(examples_of([EditRecord(REQUEST, PROBES)], own_prompt=True))
