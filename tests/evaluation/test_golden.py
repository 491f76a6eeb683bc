"""The published reference code's numbers on a tiny trained model."""

import json
from pathlib import Path

import pytest

from editbench.evaluation.evaluator import Evaluator
from editbench.evaluation.generated_text import entropy, tokens
from editbench.evaluation.perplexity import text_scores
from editbench.model.language_model import LanguageModel
from editbench.model.likelihood import Query, score_targets
from editbench.records import LOCALITY, PARAPHRASE, EditRecord, EditRequest, Passage, Probe

GOLDEN = Path(__file__).parents[1] / "golden"
DATA = json.loads((GOLDEN / "eval-gpt2" / "data.json").read_text(encoding="utf-8"))
KINDS = {"rewrite": "rewrite_prompts", "paraphrase": "paraphrase_prompts", "locality": "neighborhood_prompts"}


@pytest.fixture(scope="module")
def lm():
    return LanguageModel.load(GOLDEN / "models" / "gpt2", device="cpu")


def record(raw):
    asked = raw["requested_rewrite"]
    new, true = asked["target_new"]["str"], asked["target_true"]["str"]
    request = EditRequest(
        str(raw["case_id"]), asked["prompt"].format(asked["subject"]), asked["subject"], new, target_true=true
    )
    probes = [Probe(PARAPHRASE, p, new) for p in raw["paraphrase_prompts"]]
    probes += [Probe(LOCALITY, p, true) for p in raw["neighborhood_prompts"]]
    return EditRecord(request, tuple(probes))


def test_counterfact(lm):
    records = [(record(raw), i) for i, raw in enumerate(DATA["records"])]
    rows = Evaluator(lm).score(records, stage="before", edits=0, batch=-1)
    for row, golden in zip(rows, DATA["counterfact"], strict=True):
        for kind, name in KINDS.items():
            probes = [p for p in row["probes"] if p["kind"] == kind]
            wanted, other = ("target_true", "target_new") if kind == "locality" else ("target_new", "target_true")
            pairs = golden[f"{name}_probs"]
            assert [p["nll"] for p in probes] == pytest.approx([p[wanted] for p in pairs], abs=1e-4)
            assert [p["alternative_nll"] for p in probes] == pytest.approx([p[other] for p in pairs], abs=1e-4)
            assert [all(p["correct"]) for p in probes] == golden[f"{name}_correct"]
            wins = [p[wanted] < p[other] for p in pairs]
            assert row["scores"][f"{kind}.nll_contrast"] == sum(wins) / len(wins)


def test_zsre_token_by_token(lm):
    for case in DATA["zsre"]:
        for call in case["calls"]:
            # the reference feeds "prompt", "prompt a", "prompt ab", ...: one prompt for each token of the target
            starts = [i for i, target in enumerate(call["targets"]) if target.startswith(" ") and is_start(call, i)]
            for start, end in zip(starts, [*starts[1:], len(call["targets"])], strict=True):
                target = "".join(call["targets"][start:end]).strip()
                ((found,),) = score_targets(lm, [Query(call["prompts"][start], (target,))])
                assert list(found.correct) == call["correct"][start:end]


def is_start(call, i):
    return i == 0 or call["prompts"][i] != call["prompts"][i - 1] + call["targets"][i - 1]


def test_perplexity(lm):
    for golden in DATA["perplexity"]:
        scores = text_scores(lm, [Passage("", golden["text"])], max_tokens=100)
        count = golden["n_tokens"]
        assert scores["tokens"] == count - 1
        # the reference divides the sum over count - 1 tokens by count
        assert scores["perplexity"] ** ((count - 1) / count) == pytest.approx(golden["ppl"], rel=1e-5)


def test_what_a_trained_model_says(lm):
    """It says "Spanish.", and of the paraphrases "Spanish." and "Spanish at home."."""
    asked = record(DATA["records"][0])
    request = EditRequest("x", asked.request.prompt, asked.request.subject, asked.request.target_true)
    wanted = EditRecord(request, tuple(p for p in asked.probes if p.kind == PARAPHRASE))
    (row,) = Evaluator(lm).score([(wanted, 0)], stage="before", edits=0, batch=-1)
    assert [p["generated"] for p in row["probes"]] == ["Spanish.", "Spanish.", "Spanish at home."]
    assert row["scores"]["rewrite.generation"] == 1.0
    assert row["scores"]["paraphrase.generation"] == 0.5
    assert row["scores"]["paraphrase.generation_contains"] == 1.0


def test_fluency():
    golden = DATA["ngram_entropy"]
    found = [entropy(tokens) for tokens in golden["tokens"]]
    assert found == pytest.approx(golden["per_text"], rel=1e-9)
    assert sum(found) / len(found) == pytest.approx(golden["mean"], rel=1e-9)
    (row,) = [i for i, text in enumerate(golden["texts"]) if tokens(text) == golden["tokens"][i]]
    assert row == 1  # the one text of a single sentence is split alike
