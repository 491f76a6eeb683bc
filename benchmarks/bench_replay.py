"""A training step beside the weights, with and without what its layer computes before the edited projection.

    python -m benchmarks.bench_replay

CPU-milliseconds of a forward and a backward pass of ten rows of 23 tokens on the embedded Llama, by layer: the median
of 25 turns, the two ways in turn.
"""

import statistics
import time

import torch

from editbench.config import ModelConfig
from editbench.memory_based.projection import SECOND, Projection
from editbench.memory_based.target_rows import TargetRows
from editbench.model.hooks import hooked
from editbench.model.language_model import load_model

TURNS, LAYERS = 25, (1, 2, 4, 5)


def seconds(data):
    """CPU-seconds of one step that trains what is added to the projection's output."""
    added = torch.zeros(data.projection.d_out, requires_grad=True)
    begun = time.process_time()
    with torch.enable_grad():
        nll, _ = data.nll(hooked(data.projection.module, lambda output: output + added))
        nll.sum().backward()
    return time.process_time() - begun


def main():
    """Print a line a layer: what runs all of it at each step, what keeps its beginning."""
    torch.set_num_threads(1)
    lm, generator = load_model(ModelConfig(path="pocket")), torch.Generator().manual_seed(0)
    rows = [torch.randint(5, 2_000, (23,), generator=generator).tolist() for _ in range(10)]
    for layer in LAYERS:
        data = TargetRows(lm, Projection.of(lm, layer, SECOND), [(row[:20], row[20:]) for row in rows])
        kept, times = data._before, {"whole": [], "kept": []}
        for _ in range(TURNS):
            for name, outputs in (("whole", {}), ("kept", kept)):
                data._before = outputs
                times[name].append(seconds(data))
        whole, own = (1e3 * statistics.median(some) for some in times.values())
        print(f"layer {layer}: {whole:.1f} ms, {own:.1f} with its beginning kept ({own / whole:.2f})")


if __name__ == "__main__":
    main()
