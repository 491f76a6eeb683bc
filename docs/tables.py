"""Writes the tables of ``docs/methods/index.md``, ``memory.md``, ``growth.md``, ``tuning.md`` and ``full-size.md``.

    python docs/tables.py

The first is from the methods' classes, the second from the lines of ``python -m benchmarks.bench_methods`` in
``benchmarks/methods.jsonl``, the third from those of ``python -m benchmarks.bench_long_stream`` in
``benchmarks/growth.jsonl``, the fourth from the searches in ``results/reference/tuning``, the last what
``editbench plan`` says of models of full size.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cells import markdown

from editbench import plugins
from editbench.registry import method_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from editbench.estimate import Estimate

ROOT = Path(__file__).resolve().parents[1]
LINES = ROOT / "benchmarks" / "methods.jsonl"
OWN = "editbench.methods."
ALL = 10_000  # edits; a row with fewer is marked
BEGIN, END = "<!-- table, by docs/tables.py -->\n", "<!-- end of table -->"


def methods_table() -> str:
    """What each method of this package declares."""
    rows = []
    for name, point in plugins.entry_points(plugins.METHODS).items():
        if point.value.startswith(OWN):
            facts = method_facts(name)
            most = "any" if facts["max_batch"] is None else str(facts["max_batch"])
            link = f"[`{name}`]({name}.md)"
            rows.append((link, facts["title"], facts["kind"], ", ".join(facts["needs"]) or "–", most, facts["paper"]))
    return markdown(("method", "title", "edits lie in", "needs", "at once", "paper"), rows)


def memory_table() -> str:
    """A row for each measured method."""
    rows = []
    for line in sorted(map(json.loads, LINES.read_text(encoding="utf-8").splitlines()), key=lambda of: of["method"]):
        rows.append(_memory_row(line))
    titles = ("method", "edits", "kept, MB", "bytes an edit", "resident: first, last, MB", "run's folder, MB")
    return markdown((*titles, "an edit, ms", "a question: before, after, ms", "after : before"), rows)


def _memory_row(of: dict[str, Any]) -> tuple[str, ...]:
    edits = of["edits"]
    return (
        of["method"],
        f"{edits:,}{'' if edits >= ALL else ' *'}{' †' if 'changed' in of else ''}",
        f"{of['kept_bytes'] / 1e6:,.2f}",
        f"{of['kept_bytes'] / edits:,.0f}",
        f"{of['rss_first_mb']:,.0f}, {of['rss_last_mb']:,.0f}",
        f"{of['disk_mb']:,.0f}",
        "–" if "changed" in of else f"{of['edit_cpu_ms']:,.0f}",
        f"{of['unedited_ms']:.1f}, {of['question_ms']:.1f}",
        f"{of['question_ms'] / of['unedited_ms']:.2f}",
    )


def growth_table() -> str:
    """A row for each long stream: what an edit costs in its tenths, memory, disk, resume, and commands afterwards."""
    from growth_picture import LINES as MEASURED
    from growth_picture import relative_time, tenths

    beside: dict[tuple[str, str], dict[str, Any]] = {}
    for line in map(json.loads, MEASURED.read_text(encoding="utf-8").splitlines()):
        of = beside.setdefault((line["model"], line["method"]), {})
        of.update({line["command"]: line["seconds"]} if "command" in line else {} if "cpu_ms" in line else line)
    rows = []
    for (model, method), own in tenths().items():
        of, ratios = beside[model, method], [ratio for _, ratio in relative_time(own)]
        rows.append(
            (
                method,
                model,
                f"{of['whole']:,}",
                f"{own[0]['cpu_ms']:.1f}, {own[-1]['cpu_ms']:.1f}",
                f"{max(ratios) / min(ratios):.2f}",
                f"{own[0]['rss_mb']:,.0f}, {own[-1]['rss_mb']:,.0f}",
                f"{own[-1]['disk_mb']:,.0f}",
                f"{of['cpu_s']:,.0f}",
                f"{of['start_cpu_s']:.0f}, {of['resume_cpu_s']:.0f}",
                f"{of['leaderboard']:.1f}, {of['report']:.1f}",
            )
        )
    titles = ("method", "model", "edits", "an edit, ms: first tenth, last", "dearest : cheapest tenth")
    titles += ("resident, MB: first tenth, last", "disk, MB", "whole, s", "start, resume, s", "leaderboard, report, s")
    return markdown(titles, rows)


def tuning_table() -> str:
    """For each model a row for each search of the reference: the best score after so many trials, and its rank."""
    from editbench.tuning.report import ranks
    from editbench.tuning.study import find_studies

    tables, found = [], ranks(find_studies(ROOT / "results" / "reference" / "tuning"))
    for model in sorted({row["model"] for row in found}):
        own, rows = [row for row in found if row["model"] == model], []
        counts = [count for count in own[0]["scores"] if own[0]["scores"][count] is not None]
        for row in own:
            assert None not in (row["scores"][count] for count in counts), f"{row['method']}: {row['trials']} trials"
            scores = (f"{row['scores'][count]:.3f} ({row['ranks'][count]})" for count in counts)
            rows.append((f"`{row['method']}`", *scores, str(row["zero"])))
        titles = ("untuned", *(f"{count} trials" for count in counts[1:]), f"of {counts[-1]}: score 0")
        tables.append(f"{model}, {own[0]['edits']} edits:\n\n{markdown(('method', *titles), rows)}")
    return "\n".join(tables)


def full_size_table() -> str:
    """Device, host and disk of each method on each model, in GiB, by the planner of ``editbench plan``."""
    sys.path.insert(0, str(ROOT))  # the benchmarks are no part of the package
    from benchmarks.gpu.settings import batch_of, config_of, measured_methods, nearest
    from benchmarks.gpu.shapes import SHAPES
    from editbench import compose
    from editbench.config import MethodConfig
    from editbench.estimate import Planner

    planner, rows = Planner({}, look=False, gpu=True), []
    with tempfile.TemporaryDirectory() as folder:
        for model in FULL_SIZE:
            (Path(folder) / model).mkdir()
            facts = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **SHAPES[model]}
            (Path(folder) / model / "config.json").write_text(json.dumps(facts), encoding="utf-8")
        own = {"method": "unedited", "results.dir": folder, "cache": folder, "stream.edits": EDITS}
        base = compose.compose([*(f"{k}={v}" for k, v in own.items()), "model=pocket", "model.dtype=bfloat16"])
        for method in ("unedited", *sorted(measured_methods())):
            cells, batch = [], 1 if method == "unedited" else batch_of(method, BATCH)
            for model in FULL_SIZE:
                settings = base.method.settings if method == "unedited" else config_of(method, model)
                config = replace(
                    base,
                    method=MethodConfig(method, None, settings),
                    model=replace(base.model, path=str(Path(folder) / model), name=model, texts="self"),
                    stream=replace(base.stream, batch_size=batch),
                )
                cells.append(_sizes(planner.estimate(1, config)))
            named = "" if method == "unedited" else nearest(method, FULL_SIZE[1]) or "ours"
            rows.append((f"`{method}`", str(batch), named, *cells))
    return markdown(("method", "batch", "settings", *FULL_SIZE), rows)


def _sizes(one: Estimate) -> str:
    """GPU, host and disk, the last with the cache's files."""
    parts = (one.device or 0, one.host or 0, one.disk + one.cached)
    return " · ".join(f"{part / 2**30:.0f}" if part >= 10 * 2**30 else f"{part / 2**30:.1f}" for part in parts)


FULL_SIZE = ("llama-2-7b", "llama-3-8b", "llama-2-13b", "llama-2-70b")
EDITS, BATCH = 1000, 100
PAGES: dict[str, Callable[[], str]] = {
    "methods/index.md": methods_table,
    "memory.md": memory_table,
    "growth.md": growth_table,
    "tuning.md": tuning_table,
    "full-size.md": full_size_table,
}


def page(name: str) -> str:
    """A page of ``docs/`` with its table made anew."""
    before, _, rest = (ROOT / "docs" / name).read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + "\n" + PAGES[name]() + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    for name in PAGES:
        (ROOT / "docs" / name).write_text(page(name), encoding="utf-8")
