"""The summed changes as an adapter."""

import pytest
import torch

from editbench import open_run
from editbench.edited_run.adapter import factors_of
from editbench.edited_run.exports import export
from tests.edited_run.test_exports import logits

peft = pytest.importorskip("peft")


def test_factors_are_the_best_of_their_rank():
    left, right = torch.randn(6, 2, dtype=torch.float64), torch.randn(9, 2, dtype=torch.float64)
    change = left @ right.T
    whole = factors_of(change)
    assert len(whole.down) == 2 and whole.error < 1e-6
    torch.testing.assert_close(whole.up.double() @ whole.down.double(), change, rtol=1e-5, atol=1e-6)
    cut, values = factors_of(change, rank=1), torch.linalg.svdvals(change)
    assert cut.error == pytest.approx(float(values[1] / values.norm()))
    found = (change - cut.up.double() @ cut.down.double()).norm() / change.norm()
    assert float(found) == pytest.approx(cut.error, rel=1e-4)


@pytest.mark.parametrize(
    "method", ["finetune", pytest.param("memit", marks=pytest.mark.slow)]
)  # one weight of full rank, and several of low rank
def test_the_adapter_on_the_base_model_is_the_edited_model(claimed, places, method, tmp_path):
    said = export(claimed(method), "lora", tmp_path / "out")
    assert "relative error is" in said
    from transformers import AutoModelForCausalLM

    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(places["model.path"]), tmp_path / "out")
    run = open_run(claimed(method))
    torch.testing.assert_close(
        logits(model, run.lm.tokenizer), logits(run.lm.model, run.lm.tokenizer), rtol=1e-4, atol=1e-5
    )


def test_a_smaller_rank_is_a_smaller_adapter_whose_error_is_stated(claimed, tmp_path):
    said = export(claimed("finetune"), "lora", tmp_path / "out", rank=1)
    assert "of rank 1 at most" in said and 0.1 < float(said.partition("error is ")[2].split()[0]) < 1
    with pytest.raises(ValueError, match="rank"):
        export(claimed("finetune"), "lora", tmp_path / "other", rank=0)


def test_without_a_change_there_is_no_adapter(claimed, tmp_path):
    with pytest.raises(ValueError, match="no weight was changed"):
        export(claimed("unedited"), "lora", tmp_path / "out")
