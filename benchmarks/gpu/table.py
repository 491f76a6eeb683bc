"""The Markdown table of a session's rows, for benchmarks/README.md: what was not measured stays blank."""

from benchmarks.gpu.settings import measured_methods

AIMS = {"rome": 0.8, "memit": 0.08, "nse": 0.08, "scen": 0.5, "ultraedit": 0.015, "evaluation, together": 0.3}
"""Seconds at Llama-3-8B in bfloat16, of an edit, or of a record of 13 prompts (200 a minute)."""
AIMED = ("llama-3-8b", "bfloat16")
OTHERS = ("hash of all weights", "covariance", "evaluation, together", "evaluation, one at a time")


def table(rows):
    """A line for each thing, a pair of columns for each shape and dtype: seconds, and peak GiB beside the foreseen."""
    kinds = list(dict.fromkeys((row["shape"], row["dtype"]) for row in rows))
    found = {(row["what"], row["shape"], row["dtype"]): row for row in rows}
    names = [*measured_methods(), *OTHERS]
    names += sorted({row["what"] for row in rows} - set(names))
    titles = ["seconds for each", "aim at 8B"]
    for shape, dtype in kinds:
        titles += [f"{shape}, {dtype}", "peak GiB (foreseen)"]
    lines = [titles, ["---"] * len(titles)]
    for name in names:
        aim = AIMS.get(name)
        cells = [name, "" if aim is None else f"{aim:g}"]
        for kind in kinds:
            cells += _cells(found.get((name, *kind)), aim if kind == AIMED else None)
        lines.append(cells)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + "\n" + caption(rows)


def _cells(row, aim):
    """Seconds, marked where they miss an aim, and memory; both empty without a measurement."""
    if row is None or "error" in row:
        return ["" if row is None else "failed", ""]
    seconds = row.get("seconds_per_edit", row.get("seconds_per_record", row.get("seconds")))
    text = "" if seconds is None else f"{seconds:.3g}" + (" (missed)" if aim is not None and seconds > aim else "")
    if "flat" in row:
        text += f", longest : shortest tenth {row['ratio']:.2f}"
    peak, said = row.get("peak_gb"), row.get("foreseen_gb")
    return [text, "" if peak is None else f"{peak:.1f}" + ("" if said is None else f" ({said:.1f})")]


def caption(rows):
    """When, where and by what the rows were measured, and what failed."""
    first = rows[0]
    text = f"{first['gpu'] or 'no GPU'}, {first['date']}, torch {first['torch']}, transformers {first['transformers']}."
    failed = [f"{row['what']} ({row['shape']}, {row['dtype']}): {row['error']}" for row in rows if "error" in row]
    return "\n\n".join([text, *(["Failed or left out: " + "; ".join(failed)] if failed else [])]) + "\n"
