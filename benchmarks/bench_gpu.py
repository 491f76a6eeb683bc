"""The locate-then-edit methods at full size on one GPU, with random weights: edits a second, memory, where time goes.

Shapes of Llama-2-7B and Llama-3-8B; records, text and tokenizer of the embedded world, whose prompts are about as long
as CounterFact's. Random weights never reach the stopping loss, so that every edit takes all its steps: the worst case.

    python -m benchmarks.bench_gpu [--shapes llama-2-7b,llama-3-8b] [--dtypes bfloat16,float32] [--stream 1000]
                                   [--card-gb 24] [--out FILE.json]
"""

import argparse
import json
import time
from collections import defaultdict

import torch
import transformers

from editbench.config import shipped_model_path
from editbench.datasets import load
from editbench.ledger import Ledger
from editbench.locate_then_edit import multi_layer, values
from editbench.locate_then_edit.covariance import compute_covariance
from editbench.methods.memit import MEMIT, MEMITConfig
from editbench.methods.nse import NSE, NSEConfig
from editbench.model.language_model import LanguageModel
from editbench.model.loading import DTYPES
from editbench.pocket import dataset_files
from editbench.resources import Resources

SHAPES = {
    "llama-2-7b": {"vocab_size": 32000, "intermediate_size": 11008, "num_key_value_heads": 32},
    "llama-3-8b": {"vocab_size": 128256, "intermediate_size": 14336, "num_key_value_heads": 8},
}
COMMON = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096}
LAYERS, STEPS, BATCH, COVARIANCE_TOKENS = [4, 5, 6, 7, 8], 25, 100, 20_000
TEMPLATES = ["{}", *(f"{start}{{}}" for start in ("The people of the town have often said that. ",) * 5)]


def random_lm(shape, dtype):
    """A Llama of this shape on the GPU, made there, with the embedded world's tokenizer."""
    config = transformers.LlamaConfig(**COMMON, **SHAPES[shape], tie_word_embeddings=False)
    default = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[dtype])
    try:
        with torch.device("cuda"):
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(config)
    finally:
        torch.set_default_dtype(default)
    tokenizer = transformers.AutoTokenizer.from_pretrained(shipped_model_path("pocket"))
    return LanguageModel(model, tokenizer, name=shape)


class Stopwatch:
    """Adds up the GPU's and the CPU's wall time of the functions that it is put around."""

    def __init__(self):
        self.seconds = defaultdict(float)
        self._undo = []

    def around(self, owner, name, label):
        original = getattr(owner, name)

        def timed(*args, **kwargs):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                torch.cuda.synchronize()
                self.seconds[label] += time.perf_counter() - begun

        setattr(owner, name, timed)
        self._undo.append((owner, name, original))

    def remove(self):
        for owner, name, original in self._undo:
            setattr(owner, name, original)


def timed(call):
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    result = call()
    torch.cuda.synchronize()
    return time.perf_counter() - begun, torch.cuda.max_memory_allocated() / 2**30, result


def editor_of(cls, config_class, lm, covariance, **settings):
    config = config_class(
        layers=LAYERS, steps=STEPS, learning_rate=0.1, weight_decay=0.5, stop_loss=0.0, ridge=0.01, **settings
    )
    return cls(lm, Ledger(lm), config, Resources(templates=TEMPLATES, covariance=covariance))


def measure(shape, dtype, stream, card_gb):
    """Rows for one model: statistics, MEMIT, NSE, and a stream of NSE edits in the memory of a smaller card."""
    build, _, lm = timed(lambda: random_lm(shape, dtype))
    model_gb = torch.cuda.memory_allocated() / 2**30
    base = {"shape": shape, "dtype": dtype, "model_gb": model_gb, "build_s": build}
    texts = dataset_files.plain_text(0)
    seconds, peak, covariance = timed(lambda: compute_covariance(lm, texts, LAYERS, max_tokens=COVARIANCE_TOKENS))
    covariance = {layer: matrix.cpu() for layer, matrix in covariance.items()}
    yield {**base, "what": "covariance of 5 layers", "seconds": seconds, "tokens": COVARIANCE_TOKENS, "peak_gb": peak}
    requests = [record.request for record in load("counterfact", "pocket").records]
    methods = (
        ("memit", MEMIT, MEMITConfig, {"covariance_weight": 15_000.0}),
        ("nse", NSE, NSEConfig, {"covariance_weight": 15_000.0, "alpha": 0.0, "upper_bound": 1e9, "max_iterations": 3}),
    )
    for name, cls, config_class, settings in methods:
        editor = editor_of(cls, config_class, lm, covariance, **settings)
        setup, _, _ = timed(lambda editor=editor: editor.prepare([]))
        editor.edit(requests[-BATCH:])  # warm-up: kernels, autotuning, allocator
        hooked = Stopwatch()
        hooked.around(values._Problem, "__init__", "values: one pass over whole rows")
        hooked.around(values._Problem, "solve", "values: steps")
        hooked.around(multi_layer.EditKeys, "at", "keys and hidden states")
        hooked.around(multi_layer.EditKeys, "keys", "keys for the memory")
        hooked.around(Ledger, "_apply", "applying")
        seconds, peak, result = timed(lambda editor=editor: editor.edit(requests[:BATCH]))
        hooked.remove()
        yield {
            **base,
            "what": f"{name}, one batch",
            "edits": BATCH,
            "seconds": seconds,
            "seconds_per_edit": seconds / BATCH,
            "setup_s": setup,
            "peak_gb": peak,
            "statistics_gb": 5 * editor_statistics(editor) / 2**30,
            "parts": dict(hooked.seconds),
            "applied": len(result.applied),
        }
        editor.ledger.rollback()
        del editor
        torch.cuda.empty_cache()
    if stream:
        yield {**base, **nse_stream(lm, covariance, requests, stream, card_gb)}


def editor_statistics(editor):
    """Bytes of one layer's covariance's factor."""
    solver = next(iter((editor.memory.key_solvers if hasattr(editor, "memory") else editor._grams).values()))
    return solver.base.numel() * solver.base.element_size()


def nse_stream(lm, covariance, requests, count, card_gb):
    """A stream of NSE edits in batches, with all but ``card_gb`` (plus the statistics) of the card's memory taken."""
    many = [replace_id(requests[i % len(requests)], i) for i in range(count)]
    settings = {"covariance_weight": 15_000.0, "alpha": 0.0, "upper_bound": 1e9, "max_iterations": 2}
    editor = editor_of(NSE, NSEConfig, lm, covariance, **settings)
    editor.prepare([])
    statistics = 5 * editor_statistics(editor)
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]
    limit = int(card_gb * 2**30) - (torch.cuda.memory_allocated() - statistics)
    ballast = torch.empty(max(0, free - limit), dtype=torch.uint8, device="cuda")

    def run():
        for start in range(0, count, BATCH):
            editor.edit(many[start : start + BATCH])

    seconds, peak, _ = timed(run)
    footprint = editor.footprint()
    peak -= (ballast.numel() + statistics) / 2**30
    return {
        "what": f"nse, stream of {count}",
        "edits": count,
        "seconds": seconds,
        "seconds_per_edit": seconds / count,
        "card_gb": card_gb,
        "peak_gb_besides_statistics": peak,
        "footprint_device_gb": footprint.device / 2**30,
    }


def replace_id(request, number):
    return type(request)(f"{number}", request.prompt, request.subject, request.target, request.target_true)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--dtypes", default="bfloat16")
    parser.add_argument("--stream", type=int, default=0)
    parser.add_argument("--card-gb", type=float, default=24.0)
    parser.add_argument("--out")
    options = parser.parse_args()
    rows = []
    for shape in options.shapes.split(","):
        for dtype in options.dtypes.split(","):
            for row in measure(shape, dtype, options.stream, options.card_gb):
                row |= {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
                rows.append(row)
                print(json.dumps(row), flush=True)
                if options.out:
                    with open(options.out, "w") as file:
                        json.dump(rows, file, indent=1)
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
