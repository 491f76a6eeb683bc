"""Small runs, as the editing loop writes them, for tests of tables, comparisons and reports."""

from __future__ import annotations

import random
from pathlib import Path

from editbench.results import RunFolder
from editbench.results.identity import identify
from editbench.results.summary import summarise

HEADLINE = {
    "reliability": "rewrite.exact_match",
    "generality": "paraphrase.exact_match",
    "locality": "locality.agreement",
}
KINDS = ("rewrite", "paraphrase", "paraphrase", *["locality"] * 10, "subject_fact", "subject_fact")
NO_PARTS = {"of": "runs of schema 1"}


def write_fixed_run(
    root,
    run,
    *,
    method="rome",
    edits=2,
    rate=0.5,
    status="done",
    reason=None,
    model="tiny",
    constants="tuned",
    seed=0,
    parts=None,
    unsupported=0,
) -> Path:
    """A run in which every record has the same rate."""
    provenance = {
        "editbench": "0.1.0",
        "commit": "1234567",
        "model": {"name": model, "hash": "12e4567"},
        "dataset": {"name": "counterfact", "hash": "00123"},
        "stream": {"edits": edits, "batch_size": 1, "hash": "s"},
        "method": {"name": method, "hparams": constants, "config": {}},
        "protocol": {"name": "memit", "headline": HEADLINE},
        "seed": seed,
    }
    if parts is not NO_PARTS:
        made = {"method": method, "model.hash": "12e4567", "stream.edits": edits, "versions.exact_match": 1}
        provenance |= identify({**made, **(parts or {})})
    else:
        provenance["schema"] = 1
    scores = {**dict.fromkeys(HEADLINE.values(), rate), "subject_fact.agreement": 0.125}
    rows = [perplexity("before", 0, 4.0), perplexity("final", edits, 5.0)]
    for position in range(edits):
        out = position >= edits - unsupported
        done = {"status": "unsupported", "scores": {}} if out else {"status": "scored", "scores": scores}
        common = {"record": f"r{position}", "position": position, **done}
        rows.append({"stage": "immediate", "edits": position + 1, "batch": position, **common})
        rows.append({"stage": "final", "edits": edits, "batch": edits - 1, **common})
    with RunFolder.create(root, run, "seed: 0\n", provenance) as store:
        store.append_scores(rows)
        store.seal(edits - 1)
        if status != "running":
            costs = {"edit_seconds": 3.0, "edits_made": 1, "cached": ["covariance"], "peak_rss_bytes": 10}
            costs["footprint"] = {"device": 7, "host": 1}
            summary = summarise(store.scores(), HEADLINE) if status == "done" else None
            store.set_status(status, reason, summary=summary, costs=costs)
    return store.path


def perplexity(stage, edits, value):
    return {
        "stage": stage,
        "edits": edits,
        "batch": edits - 1,
        "of": "perplexity.plain",
        "scores": {"perplexity": value},
    }


def write_run(
    root,
    name,
    *,
    method="rome",
    seed=0,
    edits=8,
    evaluate_at=(),
    rate=0.8,
    probe=None,
    status="done",
    settings=None,
    parts=None,
    collapsed=None,
):
    """A run with rates around `rate` and a probe's texts from `probe(kind, position)`."""
    rng = random.Random(f"{method} {seed}")
    provenance = {
        **{"editbench": "0.1.0", "commit": "1234567", "python": "3.12", "seed": seed},
        "model": {"name": "tiny", "hash": "12e4"},
        "dataset": {"name": "counterfact", "hash": "00123"},
        "stream": {"edits": edits, "batch_size": 1, "hash": "s"},
        "method": {"name": method, "config": settings or {"layer": 5}},
        "protocol": {"name": "default", "headline": HEADLINE},
        **identify(
            {
                "method": method,
                **{f"method.{name}": value for name, value in (settings or {"layer": 5}).items()},
                "stream.edits": edits,
                **(parts or {}),
            }
        ),
    }
    rows = [texts("before", 0, 4.0), *(texts("interim", at, 4.0 + at / 50) for at in evaluate_at)]
    rows += [texts("final", edits, 6.0)]
    for stage, at in [("before", 0), *(("interim", at) for at in evaluate_at), ("final", edits)]:
        rows.append(of_texts(stage, at, "unrelated", {"questions": 100, "activation": at / 1000}))
        stamp = {"stage": stage, "edits": at, "batch": at - 1}
        rows.append({**stamp, "of": "ability.pocket", "scores": {"recall": 1 - at / 100}, "stderr": {}, "n": 9})
        rows += [of_texts(stage, at, "drift", {"weight_change": at / 100})] if at else []
    for position in range(edits):
        stages = [("immediate", position + 1), *(("interim", at) for at in evaluate_at), ("final", edits)]
        for stage, at in stages:
            if at > position:
                rows.append(record(stage, at, position, rng, rate, probe or plain_probe))
    costs = {"edit_seconds": 2.5 * edits, "edits_made": edits, "footprint": {"device": 4096 * edits, "host": 0}}
    with RunFolder.create(root, name, f"seed: {seed}\n", provenance) as store:
        store.append_scores(rows)
        if status == "done":
            summary = {**summarise(store.scores(), HEADLINE), "collapsed": collapsed}
            store.set_status("done", summary=summary, costs=costs)
        elif status != "running":
            store.set_status(status, "CUDA out of memory")
    return store.path


def texts(stage, edits, perplexity):
    return of_texts(stage, edits, "plain", {"perplexity": perplexity, "tokens": 9})


def of_texts(stage, edits, name, scores):
    return {
        "stage": stage,
        "edits": edits,
        "batch": edits - 1,
        "of": name if name in ("drift", "unrelated") else f"perplexity.{name}",
        "scores": scores,
    }


def record(stage, edits, position, rng, rate, probe):
    """One record's row; checkpoints keep no probes here, to keep the tests quick."""
    holds = {kind: rng.random() < rate for kind in HEADLINE}
    return {
        **{"stage": stage, "edits": edits, "batch": edits - 1, "status": "scored", "reason": None, "left_out": {}},
        **{"record": str(1000 + position), "position": position},
        "scores": {
            **{measure: float(holds[kind]) for kind, measure in HEADLINE.items()},
            **{"rewrite.activation": 0.9, "paraphrase.activation": 0.8, "locality.activation": edits / 1000},
        },
        "probes": []
        if stage == "interim"
        else [{**probe(kind, f"{position}.{index}"), "correct": [True]} for index, kind in enumerate(KINDS)],
    }


def plain_probe(kind, where):
    prompt = f"The mother tongue of person number {where}, whom nobody has ever heard of, is, as people say,"
    before = {"before": "French"} if kind in ("locality", "subject_fact") else {}
    return {"kind": kind, "prompt": prompt, "target": "French", "answer": "French", "nll": 0.0123456, **before}
