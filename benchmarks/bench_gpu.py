"""The methods and the evaluation at full size on one GPU, with random weights: seconds, memory, where time goes.

Shapes of Llama-2-7B and Llama-3-8B; records, text and tokenizer of the embedded world, whose prompts are about as long
as CounterFact's. Random weights never reach the stopping loss, so that every edit takes all its steps: the worst case.
A part that fails is a row with its error. ``--shapes small --device cpu`` only tries the script.

    python -m benchmarks.bench_gpu [--shapes llama-2-7b,llama-3-8b] [--dtypes bfloat16,float32]
                                   [--parts covariance,rome,memit,nse,scen,evaluation,stream] [--edits 100]
                                   [--stream 1000] [--card-gb 24] [--device cuda] [--out FILE.json]
"""

import argparse
import dataclasses
import json
import time
from collections import defaultdict

import torch
import transformers

from editbench.datasets import load
from editbench.ledger import Ledger
from editbench.locate_then_edit import multi_layer, values
from editbench.locate_then_edit.covariance import compute_covariance
from editbench.methods.finetune import FineTune, FineTuneConfig
from editbench.methods.memit import MEMIT, MEMITConfig
from editbench.methods.nse import NSE, NSEConfig
from editbench.methods.rome import ROME, ROMEConfig
from editbench.methods.scen import SCEN, SCENConfig
from editbench.model.language_model import LanguageModel
from editbench.model.likelihood import Query, score_targets
from editbench.model.loading import DTYPES
from editbench.model_places import shipped_model_path
from editbench.pocket import dataset_files
from editbench.resources import Resources

BIG = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
SHAPES = {
    "llama-2-7b": BIG | {"vocab_size": 32000, "intermediate_size": 11008, "num_key_value_heads": 32},
    "llama-3-8b": BIG | {"vocab_size": 128256, "intermediate_size": 14336, "num_key_value_heads": 8},
    "small": BIG | {"vocab_size": 4000, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128},
}
PARTS = ("covariance", "rome", "memit", "nse", "scen", "evaluation")
LAYERS, STEPS, BATCH, COVARIANCE_TOKENS, RECORDS = [4, 5, 6, 7, 8], 25, 100, 20_000, 100
SHORT = ["{}", *(f"{start}{{}}" for start in ("The people of the town have often said that. ",) * 5)]
"""MEMIT's and NSE's six templates."""
LONG = ["{}", *(f"{'The people of the town have often said that. ' * (1 + i % 2)}{{}}" for i in range(20))]
"""ROME's 21 templates."""
VALUES = {"steps": STEPS, "learning_rate": 0.1, "weight_decay": 0.5, "stop_loss": 0.0, "ridge": 0.01}
NSE_SETTINGS = {"covariance_weight": 15_000.0, "alpha": 0.0, "upper_bound": 1e9, "max_iterations": 3}
METHODS = {  # class, config, settings, templates, edits in a batch
    "rome": (ROME, ROMEConfig, {"layer": 5, **VALUES}, LONG, 1),
    "memit": (MEMIT, MEMITConfig, {"layers": LAYERS, **VALUES, "covariance_weight": 15_000.0}, SHORT, BATCH),
    "nse": (NSE, NSEConfig, {"layers": LAYERS, **VALUES, **NSE_SETTINGS}, SHORT, BATCH),
    "scen": (SCEN, SCENConfig, {"layer": 20, "edits_at_once": 4}, SHORT, 4),
    "finetune": (FineTune, FineTuneConfig, {"stop_loss": 0.0}, SHORT, 1),
}
WATCHED = [
    (values._Problem, "__init__", "values: one pass over whole rows"),
    (values._Problem, "solve", "values: steps"),
    (multi_layer.EditKeys, "at", "keys and hidden states"),
    (multi_layer.EditKeys, "keys", "keys for the memory"),
    (Ledger, "_apply", "applying"),
]


def random_lm(shape, dtype, device):
    """A Llama of this shape on the device, made there, with the embedded world's tokenizer."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[dtype])
    try:
        with torch.device(device):
            torch.manual_seed(0)
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPES[shape]))
    finally:
        torch.set_default_dtype(default)
    tokenizer = transformers.AutoTokenizer.from_pretrained(shipped_model_path("pocket"))
    return LanguageModel(model, tokenizer, name=shape)


def synchronise():
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Stopwatch:
    """Adds up the wall time of the functions that it is put around."""

    def __init__(self, watched):
        self.seconds, self._undo = defaultdict(float), []
        for owner, name, label in watched:
            self._around(owner, name, label)

    def _around(self, owner, name, label):
        original = getattr(owner, name)

        def timed(*args, **kwargs):
            synchronise()
            begun = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                synchronise()
                self.seconds[label] += time.perf_counter() - begun

        setattr(owner, name, timed)
        self._undo.append((owner, name, original))

    def remove(self):
        for owner, name, original in self._undo:
            setattr(owner, name, original)


def timed(call):
    """Seconds, peak GB on the GPU, result."""
    synchronise()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    result = call()
    synchronise()
    return time.perf_counter() - begun, torch.cuda.max_memory_allocated() / 2**30, result


def measure(shape, dtype, options):
    """A row for each part."""
    build, _, lm = timed(lambda: random_lm(shape, dtype, options.device))
    base = {
        "shape": shape,
        "dtype": dtype,
        "model_gb": torch.cuda.memory_allocated() / 2**30,
        "build_s": build,
    }
    texts = dataset_files.plain_text(0)
    seconds, peak, covariance = timed(lambda: compute_covariance(lm, texts, LAYERS, max_tokens=COVARIANCE_TOKENS))
    covariance = {layer: matrix.cpu() for layer, matrix in covariance.items()}
    yield {**base, "what": "covariance", "seconds": seconds, "tokens": COVARIANCE_TOKENS, "peak_gb": peak}
    requests = [record.request for record in load("counterfact", "pocket").records]
    for part in options.parts.split(","):
        try:
            if part in METHODS:
                yield {**base, **edits(part, lm, covariance, requests, options.edits)}
            elif part == "evaluation":
                yield from ({**base, **row} for row in evaluation(lm))
            elif part == "stream":
                yield {**base, **nse_stream(lm, covariance, requests, options.stream, options.card_gb)}
        except Exception as error:
            yield {**base, "what": part, "error": f"{type(error).__name__}: {error}"[:300]}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def make(name, lm, covariance, **more):
    """An editor with the method's settings here, and the size of its batches."""
    cls, config_class, settings, templates, batch = METHODS[name]
    config = config_class(**{**settings, **more})
    return cls(lm, Ledger(lm), config, Resources(templates=templates, covariance=covariance)), batch


def edits(name, lm, covariance, requests, count):
    """Seconds an edit, and where they go, after one batch that warms up kernels and allocator."""
    editor, batch = make(name, lm, covariance)
    setup, _, _ = timed(lambda: editor.prepare([]))
    editor.edit(requests[-batch:])
    count = max(batch, count if batch == BATCH else count // 5) // batch * batch  # the others show it in fewer
    groups = [requests[start : start + batch] for start in range(0, count, batch)]
    watch = Stopwatch(WATCHED)
    seconds, peak, results = timed(lambda: [editor.edit(group) for group in groups])
    watch.remove()
    applied, footprint = sum(len(result.applied) for result in results), editor.footprint()
    editor.ledger.rollback()
    row = {"what": name, "edits": count, "batch": batch, "seconds": seconds, "seconds_per_edit": seconds / count}
    row |= {"setup_s": setup, "peak_gb": peak, "statistics_gb": statistics(editor) / 2**30, "applied": applied}
    return row | {"footprint_device_gb": footprint.device / 2**30, "parts": dict(watch.seconds)}


def statistics(editor):
    """Bytes of the factors of the covariance."""
    solvers = editor.memory.key_solvers if hasattr(editor, "memory") else getattr(editor, "_grams", {})
    return sum(solver.base.numel() * solver.base.element_size() for solver in solvers.values())


def evaluation(lm):
    """Seconds a record of 13 prompts with two targets each: many records together, and one at a time."""
    queries = []
    for record in load("counterfact", "pocket").records[:RECORDS]:
        targets = (record.request.target, record.request.target_true)
        prompts = [record.request.prompt, *(probe.prompt for probe in record.probes)]
        prompts = (prompts * 13)[:13]
        queries.append([Query(f"Record {len(queries)}. {prompt}" if i % 2 else prompt, targets)
                        for i, prompt in enumerate(prompts)])  # fmt: skip
    score_targets(lm, queries[0])
    for what, groups in (("together", [sum(queries, [])]), ("one at a time", queries)):
        seconds, peak, _ = timed(lambda groups=groups: [score_targets(lm, group) for group in groups])
        row = {"what": f"evaluation, {what}", "records": RECORDS, "seconds_per_record": seconds / RECORDS}
        yield row | {"records_per_minute": 60 * RECORDS / seconds, "peak_gb": peak}


def nse_stream(lm, covariance, requests, count, card_gb):
    """A stream of NSE edits in batches, with all but ``card_gb`` (plus the statistics) of the card's memory taken."""
    many = [dataclasses.replace(requests[i % len(requests)], id=str(i)) for i in range(count)]
    editor, _ = make("nse", lm, covariance, max_iterations=2)
    editor.prepare([])
    held = statistics(editor)
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]
    limit = int(card_gb * 2**30) - (torch.cuda.memory_allocated() - held)
    ballast = torch.empty(max(0, free - limit), dtype=torch.uint8, device="cuda")
    tenths = []

    def run():
        for start in range(0, count, BATCH):
            tenths.append(timed_wall(lambda start=start: editor.edit(many[start : start + BATCH])))

    seconds, peak, _ = timed(run)
    peak -= (ballast.numel() + held) / 2**30
    row = {"what": f"nse, stream of {count}", "edits": count, "seconds": seconds, "seconds_per_edit": seconds / count}
    row |= {"first_batch_s": tenths[0], "last_batch_s": tenths[-1], "card_gb": card_gb}
    editor.ledger.rollback()
    return row | {"peak_gb_besides_statistics": peak, "footprint_device_gb": editor.footprint().device / 2**30}


def timed_wall(call):
    """Seconds of a call."""
    begun = time.perf_counter()
    call()
    synchronise()
    return time.perf_counter() - begun


def main():
    """Print rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="llama-2-7b,llama-3-8b")
    parser.add_argument("--dtypes", default="bfloat16")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--stream", type=int, default=1000)
    parser.add_argument("--card-gb", type=float, default=24.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out")
    options = parser.parse_args()
    rows = []
    for shape in options.shapes.split(","):
        for dtype in options.dtypes.split(","):
            for row in measure(shape, dtype, options):
                row |= {
                    "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
                    "torch": torch.__version__,
                }
                rows.append({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
                print(json.dumps(rows[-1]), flush=True)
                if options.out:
                    with open(options.out, "w", encoding="utf-8") as file:
                        json.dump(rows, file, indent=1)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
