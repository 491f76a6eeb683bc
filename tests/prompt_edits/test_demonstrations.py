"""Demonstrations: their kinds in turn, and their text."""

from editbench import EditRecord, EditRequest, Probe
from editbench.prompt_edits.demonstrations import KINDS, demonstrations
from editbench.records import LOCALITY, PARAPHRASE, REWRITE, PromptFormat


def record(number, prompt_format, probes=True):
    apply = prompt_format.apply
    request = EditRequest(str(number), apply(f"own {number} is"), None, f"new{number}")
    asked = (
        Probe(LOCALITY, apply("unanswered is")),
        Probe(LOCALITY, apply(f"near {number} is"), f"old{number}"),
        Probe(PARAPHRASE, apply(f"other {number} is"), f"new{number}"),
    )
    return EditRecord(request, asked if probes else ())


def shown(records, prompt_format):
    return demonstrations(records, prompt_format, "Fact: {} {}\n".format, "Asked: ")


def test_kinds_come_in_the_papers_ratio():
    assert [KINDS.count(kind) for kind in (REWRITE, PARAPHRASE, LOCALITY)] == [1, 3, 4]
    prompt_format = PromptFormat("[INST]", "[/INST]")
    found = shown([record(i, prompt_format) for i in range(9)], prompt_format)
    question = {REWRITE: "own {} is new{}", PARAPHRASE: "other {} is new{}", LOCALITY: "near {} is old{}"}
    for i, demonstration in enumerate(found):
        asked = question[KINDS[i % 8]].format(i, i)
        assert demonstration.text == f"Fact: own {i} is new{i}\nAsked: {asked}\n\n"
        assert demonstration.prompt == f"own {i} is"


def test_a_record_without_questions_shows_its_own_prompt():
    (found,) = shown([record(0, PromptFormat(), probes=False)], PromptFormat())
    assert found.text == "Fact: own 0 is new0\nAsked: own 0 is new0\n\n"
