"""``make bench``: everything that is measured on the CPU, as one table. Takes some minutes."""

import platform
import sys

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import bench_edit, bench_evaluation, bench_published, bench_stream


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
    """Print the rows as they come, then the table, then that beside the published code."""
    table = Table("what", "CPU-s", "oracle CPU-s", "ratio", "peak MB", "oracle peak MB")
    for row in rows():
        cells = [row["what"], f"{row['seconds']:.4f}", f"{row['oracle_seconds']:.4f}", f"{row['ratio']:.1f}"]
        table.add_row(*cells, *(str(row.get(k, "")) for k in ("peak_mb", "oracle_peak_mb")))
        print(" | ".join(cells), file=sys.stderr, flush=True)
    console = Console(width=120)
    console.print(table)
    published = Table(
        "SmolLM2-135M's shape, a second for each", "here", "published code, scaled", "ratio", "aim", "peak MB"
    )
    for row in bench_published.measure():
        figures = (f"{row['seconds']:.3f}", f"{row['published_seconds']:.2f}", f"{row['ratio']:.1f}", str(row["aim"]))
        published.add_row(f"{row['what']}, {row['unit']}", *figures, str(row["peak_mb"]))
    console.print(published)
    console.print(f"Python {platform.python_version()}, torch {torch.__version__}, one thread, {platform.processor()}")


if __name__ == "__main__":
    main()
