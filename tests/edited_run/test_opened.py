"""A finished run's edited model is the one that the run had, and nothing of the folder is written."""

import json
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file, save_file

from editbench import open_run
from editbench.edited_run.opened import data_of
from editbench.files import ResultsError, file_digests
from editbench.model.likelihood import Query, score_targets
from tests.small_runs import KINDS


@pytest.mark.parametrize("method", [*KINDS, "retrieval"])
def test_the_edited_model_answers_as_the_run_had_scored_it(claimed, method):
    folder = claimed(method)
    before = file_digests(folder)
    run = open_run(folder)
    rows = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    final = [row for row in rows if row["stage"] == "final" and "record" in row]
    ids = [row["record"] for row in final]
    requests = {record.id: record.request for record in data_of(folder, run.config)[1].records}
    asked = [Query(requests[id].prompt, (requests[id].target,)) for id in ids]
    scores = [all(score[0].correct) for score in score_targets(run.lm, asked, editor=run.editor)]
    assert scores == [row["scores"]["rewrite.exact_match"] == 1.0 for row in final]
    assert file_digests(folder) == before


def test_the_unedited_model_is_there_beside_the_edited_one(claimed):
    run = open_run(claimed("finetune"))
    base = run.editor.ledger.changed_weights[0]
    edited = run.lm.weight(base).clone()
    prompt = "The mother tongue of Person1 Maupoil is"
    with run.editor.ledger.pristine():
        wanted = run.lm.generate([prompt], max_new_tokens=4)
    assert run.generate_unedited(prompt, max_new_tokens=4) == wanted
    assert torch.equal(run.lm.weight(base), edited)


def test_prompts_are_given_without_the_run_s_format(claimed):
    run = open_run(claimed("finetune", "dataset.prompt_format='Q: {} A:'"))
    assert run.generate("Who?", max_new_tokens=3) == run.lm.generate("Q: Who? A:", max_new_tokens=3)


def test_another_base_model_is_refused(claimed, places, tmp_path):
    other = copytree(places["model.path"], tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(ResultsError, match="is not the one that was edited"):
        open_run(claimed("finetune"), model=other)


def test_only_a_finished_run_is_opened(claimed, tmp_path):
    with pytest.raises(ResultsError, match="holds no run"):
        open_run(tmp_path)
    with pytest.raises(ResultsError, match="taken back"):
        open_run(claimed("finetune", "stream.mode=single", "stream.batch_size=1", "stream.evaluate_at=[]"))


def test_a_damaged_run_is_not_opened(claimed, tmp_path):
    copy = copytree(claimed("finetune"), tmp_path / "run")
    rows = (copy / "scores.jsonl").read_text()
    (copy / "scores.jsonl").write_text(rows.replace("0.0", "1.0", 1))
    with pytest.raises(ResultsError, match="damaged"):
        open_run(copy)
    (copy / "scores.jsonl").write_text(rows)
    (copy / "chain.jsonl").unlink()  # which an export has not, but then neither rows
    with pytest.raises(ResultsError, match="damaged"):
        open_run(copy)
