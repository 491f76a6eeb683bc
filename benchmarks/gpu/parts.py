"""The parts that are measured: a row of facts each."""

import dataclasses
import tempfile
import time
from pathlib import Path

from benchmarks.gpu.measuring import GIB, Stopwatch, allocated, synchronise, tenths, timed
from benchmarks.gpu.settings import batch_of, config_of, nearest
from benchmarks.gpu.shapes import LONG, SHORT, shape_of
from editbench.datasets import load
from editbench.estimate import token_counter
from editbench.ledger import Ledger
from editbench.locate_then_edit import multi_layer, values
from editbench.locate_then_edit.covariance import compute_covariance
from editbench.model.likelihood import Query, score_targets
from editbench.model_places import shipped_model_path
from editbench.pocket import dataset_files
from editbench.registry import load_method
from editbench.resources import Resources
from editbench.room import Workload

COVARIANCE_LAYERS, COVARIANCE_TOKENS, RECORDS, PROMPTS = [4, 5, 6, 7, 8], 20_000, 100, 13
FLAT = 1.5  # longest tenth of a growing stream over the shortest
WATCHED = [
    (values._Problem, "__init__", "values: one pass over whole rows"),
    (values._Problem, "solve", "values: steps"),
    (multi_layer.EditKeys, "at", "keys and hidden states"),
    (multi_layer.EditKeys, "keys", "keys for the memory"),
    (Ledger, "_apply", "applying"),
]


def covariance(lm):
    """A row, and the covariance of the layers that are edited, on the CPU."""
    texts = dataset_files.plain_text(0)
    compute_covariance(lm, texts, COVARIANCE_LAYERS[:1], max_tokens=1)  # warms up kernels and allocator
    seconds, peak, found = timed(lambda: compute_covariance(lm, texts, COVARIANCE_LAYERS, max_tokens=COVARIANCE_TOKENS))
    row = {"what": "covariance", "seconds": seconds, "tokens": COVARIANCE_TOKENS, "peak_gb": peak}
    return row, {layer: matrix.cpu() for layer, matrix in found.items()}


def hashing(lm):
    """A row: the hash of all weights, by which every cache is named; it is computed once for a model."""
    seconds, _, _ = timed(lambda: lm.fingerprint)
    return {"what": "hash of all weights", "seconds": seconds}


def requests(count):
    """So many requests of the embedded world, from the start again where they are too few."""
    known = [record.request for record in load("counterfact", "pocket").records]
    return [dataclasses.replace(known[i % len(known)], id=str(i)) for i in range(count)]


def make(method, lm, found, folder, steps):
    """An editor with its ledger in a folder, as a run's is."""
    config, cls = config_of(method, lm.name, steps), load_method(method)
    templates = LONG if method in ("rome", "wise") else SHORT
    needed = getattr(config, "layers", None) or [getattr(config, "layer", 0)]
    given = found if cls.capabilities.needs_covariance and set(needed) <= set(found) else None
    resources = Resources(templates=templates, covariance=given, texts=dataset_files.plain_text(0))
    return cls(lm, Ledger(lm, folder), config, resources)


def edits(method, lm, found, options):
    """Seconds an edit after one batch that warms up kernels and allocator, until edits or seconds are used up."""
    batch, many = batch_of(method, options.batch), requests(options.batch + options.edits)
    groups = [many[start : start + batch] for start in range(batch, len(many) - batch + 1, batch)][: options.edits]
    with tempfile.TemporaryDirectory() as folder:
        editor = make(method, lm, found, Path(folder, "ledger"), options.steps)
        setup, preparing, _ = timed(lambda: editor.prepare([]))
        editor.edit(many[:batch])
        watch = Stopwatch(WATCHED)
        try:
            seconds, peak, results = timed(lambda: _until(options.seconds, editor, groups)[1])
        finally:
            watch.remove()
        footprint, done = editor.footprint(), batch * len(results)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        editor.ledger.rollback()
    row = {"what": method, "settings": nearest(method, lm.name) or "own", "batch": batch, "edits": done}
    row |= {"seconds": seconds, "seconds_per_edit": seconds / done, "setup_s": setup, "setup_peak_gb": preparing}
    row |= {"applied": sum(len(result.applied) for result in results), "disk_mb_per_edit": size / (done + batch) / 1e6}
    row |= {"peak_gb": peak, "foreseen_gb": foreseen(editor, many[: batch + done], batch) / GIB}
    return row | {"kept_gb": footprint.device / GIB, "parts": dict(watch.seconds)}


def growth(method, lm, found, options):
    """Seconds an edit and memory by tenths of a long stream."""
    batch, many = batch_of(method, options.batch), requests(options.batch + options.growth)
    with tempfile.TemporaryDirectory() as folder:
        editor = make(method, lm, found, Path(folder, "ledger"), options.steps)
        editor.prepare([])
        editor.edit(many[:batch])
        groups = [many[start : start + batch] for start in range(batch, len(many) - batch + 1, batch)]
        seconds, results, memory = _until(options.growth_seconds, editor, groups, allocated)
        editor.ledger.rollback()
    by_tenth = [one / batch for one in tenths(seconds)]
    ratio = max(by_tenth) / min(by_tenth)
    row = {"what": f"{method}, growth", "batch": batch, "edits": batch * len(results), "asked": options.growth}
    row |= {"seconds_per_edit": sum(seconds) / (batch * len(results)), "seconds_by_tenth": by_tenth}
    known = [one for one in memory if one is not None]
    return row | {"ratio": ratio, "flat": ratio <= FLAT, "gb_by_tenth": tenths(known)}


def _until(limit, editor, groups, note=lambda: None):
    """Edit groups until so many seconds are used up: seconds and results of each, and what was noted after it."""
    seconds, results, notes, begun = [], [], [], time.perf_counter()
    for group in groups:
        at = time.perf_counter()
        results.append(editor.edit(group))
        synchronise()
        seconds.append(time.perf_counter() - at)
        notes.append(note())
        if time.perf_counter() - begun > limit:
            break
    return seconds, results, notes


def foreseen(editor, many, batch):
    """Bytes that a plan foresees on the device while these edits are made."""
    lm = editor.lm
    dtype = str(lm.model.dtype).removeprefix("torch.")
    shape = shape_of(lm.name, dtype, lm.device.type == "cuda")
    templates = editor.resources.templates
    work = Workload.of(many, batch, token_counter(shipped_model_path("pocket")), templates)
    room = type(editor).room(editor.config, shape, work)
    return shape.bytes + room.kept + room.editing


def evaluation(lm):
    """Seconds a record of 13 prompts with two targets each: many records together, and one at a time."""
    queries = []
    for record in load("counterfact", "pocket").records[:RECORDS]:
        targets = (record.request.target, record.request.target_true)
        prompts = [record.request.prompt, *(probe.prompt for probe in record.probes)]
        prompts = (prompts * PROMPTS)[:PROMPTS]
        queries.append([Query(f"Record {len(queries)}. {prompt}" if i % 2 else prompt, targets)
                        for i, prompt in enumerate(prompts)])  # fmt: skip
    score_targets(lm, queries[0])
    for what, groups in (("together", [sum(queries, [])]), ("one at a time", queries)):
        seconds, peak, _ = timed(lambda groups=groups: [score_targets(lm, group) for group in groups])
        row = {"what": f"evaluation, {what}", "records": RECORDS, "seconds_per_record": seconds / RECORDS}
        yield row | {"records_per_minute": 60 * RECORDS / seconds, "peak_gb": peak}
