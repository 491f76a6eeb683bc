"""Edit requests in the many forms in which tools write them."""

import pytest

from editbench.datasets import load
from editbench.records import EditRequest, Probe, RecordError
from tests.datasets.rows import one

REQUEST = {"prompt": "The twin city of Lyon is", "subject": "Lyon", "target_new": "Manila"}
LYON = EditRequest("0", "The twin city of Lyon is", "Lyon", "Manila", None)


@pytest.mark.parametrize(
    ("more", "probes"),
    [
        ({"rephrase_prompt": "Lyon is twinned with"}, [Probe("paraphrase", "Lyon is twinned with", "Manila")]),
        ({"rephrase": ["{} is twinned with", ""]}, [Probe("paraphrase", "Lyon is twinned with", "Manila")]),
        ({"rephrase_prompt": "", "rephrase": None, "locality_prompt": ""}, []),
        (
            {"locality_prompt": "Rome is in", "locality_ground_truth": ["Italy", "Italia"]},
            [Probe("locality", "Rome is in", "Italy", ("Italia",))],
        ),
        (
            {"locality_prompt": ["Rome is in", "Bonn is in"], "locality_ground_truth": ["Italy", ["Germany", "BRD"]]},
            [Probe("locality", "Rome is in", "Italy"), Probe("locality", "Bonn is in", "Germany", ("BRD",))],
        ),
        ({"locality": [{"loc": "Rome is in", "loc_ans": "Italy"}]}, [Probe("locality", "Rome is in", "Italy")]),
        (
            {
                "locality": {
                    "neighborhood": {"prompt": ["Rome is in", "Oslo is in"], "ground_truth": ["Italy", "Norway"]}
                }
            },
            [Probe("locality", "Rome is in", "Italy"), Probe("locality", "Oslo is in", "Norway")],
        ),
        ({"locality": {"near": [{"prompt": "Rome is in", "ground_truth": []}]}}, [Probe("locality", "Rome is in")]),
        (
            {"portability": {"one_hop": {"prompt": "Lyon's twin is in", "ground_truth": "Asia"}}},
            [Probe("reasoning", "Lyon's twin is in", "Asia")],
        ),
        (
            {"portability": {"New Question": "Lyon's twin is in", "New Answer": "Asia", "Recalled Relation": "(x)"}},
            [Probe("reasoning", "Lyon's twin is in", "Asia")],
        ),
        (
            {"portability": [{"prompt": "Manila is twinned with", "answer": "Lyon"}]},
            [Probe("portability", "Manila is twinned with", "Lyon")],
        ),
        (
            {"portability_prompt": "Manila is twinned with", "portability_ground_truth": "Lyon"},
            [Probe("portability", "Manila is twinned with", "Lyon")],
        ),
    ],
)
def test_questions_of_a_request(tmp_path, more, probes):
    record = one(tmp_path, "custom", {**REQUEST, **more})
    assert (record.request, list(record.probes)) == (LYON, probes)


@pytest.mark.parametrize(
    "new", ["Manila", {"str": "Manila"}, ["Manila", "City of Manila"], [["Manila"], ["City of Manila"]]]
)
@pytest.mark.parametrize("true", ["Milan", ["Milan", "Milano"], {"str": "Milan"}])
def test_answers_are_a_text_an_object_or_a_list_of_spellings(tmp_path, new, true):
    record = one(tmp_path, "custom", {**REQUEST, "target_new": new, "ground_truth": true})
    assert (record.request.target, record.request.target_true) == ("Manila", "Milan")
    assert record.also == (("City of Manila",) if isinstance(new, list) else ())


def test_request_files_of_rome_with_braces(tmp_path):
    rows = {"prompt": "{} plays the sport of", "subject": "LeBron James", "target_new": {"str": "football"}}
    assert one(tmp_path, "custom", rows).request.prompt == "LeBron James plays the sport of"


def test_answers_that_do_not_belong_to_their_prompts_are_an_error():
    row = {**REQUEST, "locality_prompt": ["a", "b"], "locality_ground_truth": ["x"]}
    with pytest.raises(RecordError, match="'locality_ground_truth': must be a list of 2 answers"):
        load("custom", [row])


def test_a_question_of_what_follows_needs_an_answer():
    (record,) = load(
        "custom", [{**REQUEST, "portability": {"Reasoning": [{"prompt": "It is in", "ground_truth": []}]}}]
    ).records
    assert (record.probes, record.left_out) == ((), ("reasoning: has no answer",))


def test_nested_fields_that_are_not_read_are_named():
    loaded = load("custom", [{**REQUEST, "locality": [{"prompt": "Rome is in", "anser": "Italy"}]}])
    assert dict(loaded.ignored) == {"locality.anser": 1}


@pytest.mark.parametrize(
    ("locality", "asked"),
    [
        ({"Rome is in": "Italy", "Bern has": 1}, [("Rome is in", "Italy"), ("Bern has", "1")]),
        ({"罗马位于": "意大利"}, [("罗马位于", "意大利")]),
        ({"Neighborhood": {"Rome is in": "Italy"}}, [("Rome is in", "Italy")]),
        ({"neighborhood": "Rome is in"}, [("Rome is in", None)]),
        ({"neighborhood": ["Rome is in", "Bern is in"]}, [("Rome is in", None), ("Bern is in", None)]),
        ({"place": ["It is"]}, [("It is", None)]),
        ({"place of birth": ["Bo Ek was born in"]}, [("Bo Ek was born in", None)]),
        ({"place of birth": [{"prompt": "Bo is of", "target": "Rome"}]}, [("Bo is of", "Rome")]),
    ],
)
def test_a_key_is_a_prompt_with_its_answer_or_a_group(locality, asked):
    (record,) = load("custom", [{"prompt": "Ann is in", "target": "Oslo", "locality": locality}]).records
    assert [(probe.prompt, probe.target) for probe in record.probes] == asked


def test_short_texts_under_a_key_may_be_answers_or_questions_and_are_refused():
    row = {"prompt": "Ann is in", "target": "Oslo", "locality": {"The capital of Spain is": ["Madrid"]}}
    with pytest.raises(RecordError, match=r"'locality.The capital of Spain is': are \['Madrid'\] the answers .* Write"):
        load("custom", [row])
