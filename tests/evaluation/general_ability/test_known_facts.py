"""The test "known" asks what the unedited model knew, and nothing else; a run's facts are none that it could edit."""

import pytest

import editbench
from editbench import compose as composing_module
from editbench import single_run
from editbench.config import AbilityConfig, ProtocolConfig
from editbench.evaluation.general_ability import ability_tests, facts
from editbench.evaluation.general_ability.known_facts import MIN_KNOWN, KnownFacts
from editbench.results.leaderboard import read_row
from tests.evaluation.examples import Bystander
from tests.tiny_models import tiny_lm

pytestmark = pytest.mark.model


def test_only_what_the_unedited_model_answers_is_asked():
    lm = editbench.load_model("pocket")
    records = editbench.load_records("counterfact", "pocket", limit=8).records
    right = [(r.request.prompt, r.request.target_true) for r in records]
    wrong = [(r.request.prompt, r.request.target) for r in records]
    test = KnownFacts(lambda: [*right, *wrong])
    test.load()
    test.learn(lm)
    assert set(test.known) <= set(right) and len(test.known) >= MIN_KNOWN
    [before], [after] = test.measure(lm), test.measure(lm, Bystander())
    assert before == after and before.scores == {"recall": 1.0} and before.n == len(test.known)
    editor = editbench.make_editor("finetune", lm, layer=2, steps=25, learning_rate=0.01, norm_bound=None)
    editor.edit([records[0].request])
    assert test.measure(lm, editor)[0].scores["recall"] < 1


def test_a_model_that_knows_nothing_is_refused():
    test = KnownFacts(lambda: [("Rome is in", "Italy")])
    test.load()
    with pytest.raises(ValueError, match="asks what .* knows unedited: 0 of 1 facts"):
        test.learn(tiny_lm("gpt2"))


def test_the_facts_decide_the_provenance():
    digests = []
    for answer in ("Italy", "Spain"):
        [test] = ability_tests(
            ProtocolConfig(ability=AbilityConfig(tasks=["known"])), 0, lambda answer=answer: [("Rome is in", answer)]
        )
        test.load()
        digests.append(test.about()["known_facts"])
    assert digests[0] != digests[1] and set(facts(["known"])) == {"known.recall"}


@pytest.mark.slow
def test_a_run_of_the_embedded_world_knows_the_facts_of_another_split(tmp_path):
    overrides = ["method=finetune", "stream.edits=2", "protocol.ability.tasks=[known]", f"results.dir={tmp_path}"]
    small = ["protocol.metrics=[exact_match,agreement]", "protocol.stages=[final]", "protocol.max_tokens=16"]
    row = read_row(single_run.run(composing_module.compose([*overrides, *small])).folder)
    assert row["before.ability.known.recall"] == 1.0 and 0.5 < row["final.ability.known.recall"] <= 1.0
    assert row["final.ability.known.recall_n"] > 150
