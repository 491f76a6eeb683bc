"""The pocket stream: CPU-seconds per ROME edit and per scored record beside the plain oracles, and peak memory.

python -m benchmarks.bench_stream
"""

import json

import torch

from benchmarks.bench_edit import _timed
from editbench import Resources, load_model, load_records, make_editor
from editbench.evaluation.questions import questions
from editbench.locate_then_edit.covariance import compute_covariance
from editbench.model.likelihood import score_targets
from editbench.pocket.dataset_files import plain_text
from tests.oracles import evaluation, locate

EDITS, LAYER, TEMPLATES = 10, 0, ["{}", "It is known. {}", "They say that in the town. {}", "So it was. {}"]
SETTINGS = {"layer": LAYER, "steps": 25, "learning_rate": 0.2, "weight_decay": 0.05, "clamp_norm_factor": 2.0}


def measure():
    """Rows: what, seconds of both ways, their ratio, peak memory in MB above what was there before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        lm, records = load_model("pocket"), load_records("counterfact", "pocket").records[:EDITS]
        yield _editing(lm, [record.request for record in records])
        yield _scoring(lm, records)
    finally:
        torch.set_num_threads(threads)


def _editing(lm, requests):
    covariance = compute_covariance(lm, plain_text()[:1500], [LAYER])
    editor = make_editor(
        "rome",
        lm,
        resources=Resources(templates=TEMPLATES, covariance=covariance),
        hparams="defaults",
        ridge=0.01,
        **SETTINGS,
    )
    editor.edit(requests[:1])
    editor.ledger.rollback()
    fast = _timed(lambda: [editor.edit([r]) for r in requests], len(requests))
    editor.ledger.rollback()
    name = lm.mlp_out_name(LAYER)
    before, c = lm.weight(name).clone(), covariance[LAYER]
    inverse = torch.linalg.inv(c + 0.01 * _mean_diagonal(c))
    slow = _timed(lambda: [locate.rome(lm, r, TEMPLATES, inverse, editor.config) for r in requests], len(requests))
    lm.weight(name).copy_(before)
    changed_weights = before.numel() * before.element_size() / 2**20
    model = sum(p.numel() * p.element_size() for p in lm.model.parameters()) / 2**20
    return {**_row("pocket: ROME, one edit", fast, slow), "touched_mb": changed_weights, "model_mb": model}


def _scoring(lm, records):
    queries = [question.query for record in records for question in questions(record)]
    fast = _timed(lambda: score_targets(lm, queries), len(records))
    slow = _timed(lambda: [evaluation.answer(lm, q.prompt, t) for q in queries for t in q.targets], len(records))
    return _row("pocket: one scored record", fast, slow)


def _mean_diagonal(matrix):
    return torch.eye(len(matrix), dtype=matrix.dtype) * matrix.diagonal().mean()


def _row(what, fast, slow):
    return {
        "what": what,
        "seconds": fast[0],
        "oracle_seconds": slow[0],
        "ratio": slow[0] / fast[0],
        "peak_mb": fast[1],
        "oracle_peak_mb": slow[1],
    }


if __name__ == "__main__":
    for row in measure():
        print(json.dumps(row), flush=True)
