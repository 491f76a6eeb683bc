"""``make bench``: everything that is measured on the CPU, as one table. Takes some minutes."""

import platform
import sys

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import bench_edit, bench_evaluation, bench_stream


def rows():
    """Every measurement, as it comes."""
    yield from bench_stream.measure()
    found = bench_evaluation.measure()
    yield {
        "what": "d=512, 12 layers: one scored record",
        "seconds": found["fast_seconds_per_record"],
        "oracle_seconds": found["oracle_seconds_per_record"],
        "ratio": found["ratio"],
    }
    for row in bench_edit.rows(tuple(bench_edit.MODELS), tuple(bench_edit.TARGETS)):
        yield {**row, "what": f"d=512, 12 layers, {row['model']}: {row['what']}"}


def main():
    """Print the rows as they come, then the table."""
    table = Table("what", "CPU-s", "oracle CPU-s", "ratio", "peak MB", "oracle peak MB")
    for row in rows():
        cells = [row["what"], f"{row['seconds']:.4f}", f"{row['oracle_seconds']:.4f}", f"{row['ratio']:.1f}"]
        table.add_row(*cells, *(str(row.get(k, "")) for k in ("peak_mb", "oracle_peak_mb")))
        print(" | ".join(cells), file=sys.stderr, flush=True)
    console = Console(width=120)
    console.print(table)
    console.print(f"Python {platform.python_version()}, torch {torch.__version__}, one thread, {platform.processor()}")


if __name__ == "__main__":
    main()
