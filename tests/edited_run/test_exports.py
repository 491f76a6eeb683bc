"""Exports load elsewhere, and are the edited model."""

import pytest
import torch
import transformers

from editbench import open_run
from editbench.cli import main
from editbench.edited_run.exports import export
from editbench.edited_run.listing import edits_of
from tests.small_runs import KINDS

PROMPTS = ["The mother tongue of Person1 Maupoil is", "Toko Yasuda plays the"]


def logits(model, tokenizer):
    with torch.no_grad():
        return torch.cat([model(**tokenizer(prompt, return_tensors="pt")).logits[:, -1] for prompt in PROMPTS])


@pytest.mark.parametrize("method", [pytest.param("finetune", marks=pytest.mark.slow), "nse"])
def test_a_checkpoint_loads_with_plain_transformers_and_has_the_same_bits(claimed, method, tmp_path):
    export(claimed(method), "checkpoint", tmp_path / "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    run = open_run(claimed(method))
    assert torch.equal(logits(model, tokenizer), logits(run.lm.model, run.lm.tokenizer))
    assert not torch.equal(logits(model, tokenizer), _unedited(run))


def _unedited(run):
    with run.editor.ledger.pristine():
        return logits(run.lm.model, run.lm.tokenizer)


@pytest.mark.parametrize("method", KINDS)
def test_a_ledger_can_be_opened_elsewhere(claimed, places, method, tmp_path):
    export(claimed(method), "ledger", tmp_path / "out")
    there, here = open_run(tmp_path / "out", model=places["model.path"]), open_run(claimed(method))
    assert there.generate(PROMPTS, max_new_tokens=5) == here.generate(PROMPTS, max_new_tokens=5)
    with pytest.raises(ValueError, match="without its rows"):
        edits_of(tmp_path / "out")


def test_edits_beside_the_weights_are_no_checkpoint(claimed, tmp_path, capsys):
    for form in ("checkpoint", "lora"):
        assert main(["export", str(claimed("scen")), "--to", form, "--out", str(tmp_path / form)]) == 1
        assert "--to ledger" in capsys.readouterr().err and not list(tmp_path.iterdir())
