"""Python of the documentation runs and does what its page says."""

import re
from dataclasses import asdict

import pytest

from editbench import cli
from editbench import compose as composing_module
from editbench.pocket import dataset_files
from tests import composing
from tests.docs.pages import TEXTS, blocks

pytestmark = pytest.mark.slow
EXECUTED = ["README.md", *(f"docs/{page}.md" for page in ("examples", "add-a-method", "add-a-dataset", "add-a-model"))]
EXECUTED += ["docs/faq.md", "docs/reports.md"]


def execute(page):
    """Run a page's Python blocks one after the other, in one namespace, as a reader would; gives the names."""
    names = {"__name__": "__main__"}
    for number, (title, block) in enumerate(blocks(TEXTS[page], "python"), start=1):
        if not title:
            exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names


def test_the_readme_edits_a_fact_and_takes_it_back(place, capsys):
    names = execute("README.md")
    request = names["request"]
    before, after = capsys.readouterr().out.strip().splitlines()
    assert request.target_true in before
    assert request.target in after
    assert names["result"].applied == [request.id]
    assert names["change"].abs().max() > 0
    assert request.target_true in names["lm"].generate(request.prompt, max_new_tokens=6)[0]


def test_the_examples_do_what_they_say(place, capsys):
    names = execute("docs/examples.md")
    out = capsys.readouterr().out.splitlines()
    answers = [line for line in out if line.startswith("[' ")]
    before, after, back = ([word.strip(" .'") for word in line.strip("[]").split(",")] for line in answers)
    assert before == back == ["tuba"] * 3
    assert after == ["drums", "drums", "tuba"]
    assert names["row"]["reliability"] == pytest.approx(1 / 3)
    assert names["editor"].ledger.edited_ids == [request.id for request in names["requests"]]
    for request in names["requests"]:
        assert f"{request.prompt} [' {request.target}" in "\n".join(out)


@pytest.mark.parametrize("page", [p for p in EXECUTED if p not in ("README.md", "docs/examples.md")])
def test_the_examples_of_other_pages_run(place, two_runs, page, capsys):
    cli.main(["leaderboard"])
    capsys.readouterr()
    execute(page)
    assert capsys.readouterr().out or page == "docs/add-a-method.md"


def test_the_method_that_is_made_twice_is_one():
    [(_, packaged)] = [b for b in blocks(TEXTS["docs/add-a-method.md"], "python") if b[0] == "nudge.py"]
    example = [b for _, b in blocks(TEXTS["docs/examples.md"], "python") if "class Nudge" in b][0]
    loops = [re.search(r"prompt = self.*?cross_entropy.*?\n", text, re.S)[0] for text in (packaged, example)]
    assert loops[0] == re.sub(r"  # with its space.*", "", loops[1])


@pytest.mark.parametrize("method", ["finetune", "rome", "memit", "nse", "scen"])
def test_the_fragment_of_a_method_runs(place, method):
    """The names that a fragment takes for granted are given, and settings that suit the model."""
    import torch

    import editbench

    lm = editbench.load_model("pocket")
    requests = [r.request for r in editbench.load_records("counterfact", "pocket", limit=2).records]
    requests[1] = editbench.EditRequest("edit-17", *[getattr(requests[1], n) for n in ("prompt", "subject", "target")])
    ids = torch.tensor([lm.encode(requests[0].prompt).ids])
    tuned = asdict(composing_module.parse(composing.compose([f"method={method}"], hydra=False)).method.settings)
    names = {
        "make_editor": lambda *a, **given: editbench.make_editor(*a, **{**given, **tuned}),
        "Resources": lambda **given: editbench.Resources(**given, templates=["{}"]),
        "lm": lm,
        "texts": dataset_files.plain_text(),
        "plain_texts": dataset_files.plain_text(),
        "folder": place / "cache",
        "requests": requests,
        "all_requests": requests,
        "batch": requests,
        "prompts": [r.prompt for r in requests],
        "ids": ids,
        "mask": torch.ones_like(ids),
        "last_prompt_columns": [ids.shape[1] - 1],
    }
    (fragment,) = [block for _, block in blocks(TEXTS[f"methods/{method}/README.md"], "python")]
    exec(fragment, names)
    assert names["editor"].config.learning_rate == tuned["learning_rate"]
