"""Sets the tables of ``docs/study.md``, ``claims.md`` and ``paper-figures.md`` from the rows of the study's runs.

    python docs/study_tables.py [FOLDER]

With a FOLDER, the runs in each results folder FOLDER/NAME are added first (``study_rows.py``).
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import yaml
from cells import cell, markdown, with_part
from claims import CLAIMS, Claim, Comparison, Figure
from demo_tables import figure
from study_rows import keep, keep_ranks, points, ranks, rows_of, settings

from editbench.results.columns import number
from editbench.results.findings import findings
from editbench.results.points import measure_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from editbench.results.schema import Row

DOCS = Path(__file__).resolve().parent
EXPERIMENTS = DOCS.parent / "conf" / "experiment" / "study"
PAGES = {  # by part
    "embedded": "study.md",
    "smollm2": "study.md",
    "smollm2_single": "study.md",
    "answers": "study.md",
    "ranks": "study.md",
    "reasons": "study.md",
    "sweeps": "study.md",
    "claims": "claims.md",
    "paper_tables": "paper-figures.md",
}
STREAMS = {  # by experiment: its datasets, each with its figure
    "embedded": {
        "counterfact": ("CounterFact", "study_counterfact.svg"),
        "zsre": ("ZsRE", "study_zsre.svg"),
        "hallucination": ("Hallucination", "study_hallucination.svg"),
    },
    "smollm2": {"counterfact": ("CounterFact, SmolLM2", "study_smollm2_counterfact.svg")},
}
MEASURES = {
    "reliability": "reliability",
    "generality": "generality",
    "locality": "locality",
    "final.subject_fact.agreement": "other facts",
    "perplexity_ratio": "perplexity ratio",
    "score": "score",
}
COSTS = {"seconds_per_edit": "s an edit", "bytes_per_edit": "kB an edit", "latency_ratio": "latency ratio"}
HEADLINE = {name: name for name in ("reliability", "generality", "locality", "score")}
LIKELIER = {  # NSE's protocol: the headline is MEMIT's
    **{"reliability": "ES", "generality": "PS", "locality": "NS", "score": "S"},
    "final.rewrite.exact_match": "exact match",
    "final.paraphrase.exact_match": "of paraphrases",
    "final.locality.exact_match": "of neighbours",
}
ACTIVATION = {
    "final.rewrite.activation": "activation of edits",
    "final.locality.activation": "of what is not edited",
    "final.rewrite.routing": "edits that find their expert",
}
ANSWERED = {  # by title: the runs whose answers were written freely as well
    "CounterFact": ("embedded", "counterfact"),
    "ZsRE": ("embedded", "zsre"),
    "Hallucination": ("embedded", "hallucination"),
    "SmolLM2, stream": ("smollm2", "counterfact"),
    "SmolLM2, single": ("smollm2_single", "counterfact"),
}
SWEEPS = {  # by the name of its results folder: heading, what was run, measures
    "published": (
        "Published constants",
        "`study/embedded` with `hparams=published`: constants of other models, layers at the same share of the depth",
        HEADLINE,
    ),
    "nse_ablation": ("NSE without its parts", "`paper/nse_ablation`: 200 edits", LIKELIER),
    "nse_ablation_1000": (
        "NSE without one of its parts, longer",
        "`paper/nse_ablation` with `stream.edits=1000`: all parts, and without one",
        LIKELIER,
    ),
    "nse_batch_size": ("Batch size", "`paper/nse_batch_size` with `stream.edits=500`", LIKELIER),
    "nse_general": (
        "General ability",
        "`paper/nse_general`: 200 edits",
        {
            "score": "S",
            "before.ability.pocket.recall": "facts recalled before",
            "final.ability.pocket.recall": "after",
            "final.ability.pocket.choice": "choice after",
        },
    ),
    "one_at_a_time": ("One edit at a time", "`study/embedded` with `stream.batch_size=1`", HEADLINE),
    "revisions": (
        "Revisions",
        "`study/revisions`: 200 edits, of which a fifth corrects an earlier one; the share of corrected prompts that "
        "give the answer of the earlier edit, and the one from before all edits. One seed; PRUNE was stopped by hand",
        {
            "final.rewrite.exact_match": "edits that hold",
            "final.earlier_edit.exact_match": "earlier edit returns",
            "final.original.exact_match": "original returns",
            "locality": "locality",
        },
    ),
    "answers": (
        "Answers written freely",
        "`study/answers`: 200 edits; with the target fed in (teacher forcing), and written token by token: the answer "
        "is the target and ends there, the whole text is, the text contains it",
        {
            "final.rewrite.exact_match": "edit, fed in",
            "final.rewrite.generation": "written",
            "final.rewrite.generation_exact": "whole text",
            "final.rewrite.generation_contains": "contained",
            "final.paraphrase.exact_match": "paraphrase, fed in",
            "final.paraphrase.generation": "written",
        },
    ),
    "nse_shift": (
        "Hidden states",
        "`paper/nse_shift`: 200 edits",
        {"score": "S", "final.texts.drift.hidden_shift": "hidden shift"},
    ),
    "nse_shift_one_layer": (
        "Hidden states, one layer",
        "`paper/nse_shift` with `method.layers=[1]`, ROME's layer: 200 edits",
        {"score": "S", "final.texts.drift.hidden_shift": "hidden shift"},
    ),
    "scen_theta": ("SCEN's threshold", "`paper/scen_theta`: 100 edits, one at a time", HEADLINE | ACTIVATION),
    "scen_theta_bare": (
        "SCEN's threshold without generic negatives",
        "`paper/scen_theta` with `method.negatives=[]`, as published: 100 edits, one at a time",
        HEADLINE | ACTIVATION,
    ),
    "scen_layers": ("SCEN's layer", "`paper/scen_layers`: 100 edits, one at a time", HEADLINE),
    "scen_edits": ("SCEN's number of edits", "`paper/scen_edits`", HEADLINE),
    "scen_first_200": ("SCEN's first 200 of 1,000", "`paper/scen_first_200`", HEADLINE),
}
PAPER_TABLES = {  # by the name of its results folder: heading, what was run, our measures under the paper's names
    "nse_table1": (
        "NSE, Table 1",
        "`paper/nse_table1`: 200 edits in batches of ten. The paper's: GPT2-XL, GPT-J-6B and Llama-3-8B, 2,000 in "
        "batches of 100",
        {"reliability": "Efficacy", "generality": "Generalization", "locality": "Specificity"},
    ),
    "scen_table1": (
        "SCEN, main tables",
        "`paper/scen_table1`: 100 edits, one after the other. The paper's: Llama-2-7B and 13B, 1,000 edits of ZsRE",
        {
            "reliability": "Reliability",
            "generality": "Generality",
            "locality": "Locality",
            "perplexity_ratio": "perplexity ratio",
        },
    ),
}
MODELS = {"smollm2": "SmolLM2"}  # of a results folder, where it is not the embedded one
COLUMNS = ("dataset", "method", "batch_size", "edits")  # that an experiment may vary, beside settings of a method


def varied(rows: Sequence[Row]) -> list[str]:
    """The columns in which rows differ, and the settings in which those of one method do."""
    own = defaultdict(list)
    for row in rows:
        own[row["method"]].append(settings(row))
    names = {name: None for some in own.values() for name in some[0] if len({json.dumps(s[name]) for s in some}) > 1}
    return [*(name for name in COLUMNS if len({row[name] for row in rows}) > 1), *names]


def streams_part(name: str) -> str:
    """For each dataset: the table, the score over the stream, and in words who leads and who collapsed."""
    rows, text = rows_of(name), ""
    for dataset, (title, picture) in STREAMS[name].items():
        own = sorted((row for row in rows if row["dataset"] == dataset), key=lambda row: -_rank(row))
        if own:
            text += f"\n### {title}\n\n![{title}: each method after so many edits]({picture})\n\n"
            text += f"{_table(own, ['method', 'seeds'], MEASURES | COSTS)}\n"
            text += f"{_over_the_stream(_stream(name, dataset))}\n{_left_out(name, own)}\n"
    return f"{text}\n"


def single_part() -> str:
    """Single edits of SmolLM2, the best method first."""
    rows = sorted(rows_of("smollm2_single"), key=lambda row: -_rank(row))
    measures = {**HEADLINE, "seconds_per_edit": COSTS["seconds_per_edit"]}
    return f"\n{_table(rows, ['method', 'hparams'], measures)}\n"


def _left_out(name: str, own: Sequence[Row]) -> str:
    """What of the experiment has no row."""
    wanted = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text(encoding="utf-8"))["hydra"]["sweeper"]["params"]
    methods = [method for method in wanted["method"].split(",") if method not in {row["method"] for row in own}]
    seeds = len(wanted["stream.seed"].split(","))
    fewer = [str(row["method"]) for row in own if int(row["seeds"] or 0) < seeds]
    parts = [f"Not run yet: {', '.join(methods)}."] if methods else []
    parts += [f"With fewer than {seeds} seeds: {', '.join(fewer)}."] if fewer else []
    return fill(" ".join(parts), 120) + "\n" if parts else ""


def _stream(name: str, dataset: str) -> list[Row]:
    return [point for point in points(name) if point["dataset"] == dataset]


def _first_seed(found: Sequence[Row]) -> list[Row]:
    return [point for point in found if point["seed"] == 0]


def _rank(row: Row) -> float:
    return number(row, "score") or number(row, "reliability") or 0.0


def _table(rows: Sequence[Row], names: Sequence[str], measures: dict[str, str]) -> str:
    """Rows in Markdown, without measures that none of them has."""
    measures = {name: title for name, title in measures.items() if any(number(row, name) is not None for row in rows)}
    lines = ((*(_value(row, name) for name in names), *(_cell(row, name) for name in measures)) for row in rows)
    return markdown((*(name.replace("_", " ") for name in names), *measures.values()), lines)


def _value(row: Row, name: str) -> str:
    value = row[name] if name in row else settings(row)[name]
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _cell(row: Row, name: str) -> str:
    value = number(row, name)
    if name == "bytes_per_edit" and value is not None:
        return f"{value / 1000:,.1f}"
    return f"{value:.2f}" if name == "latency_ratio" and value is not None else cell(row, name)


def _mean(row: Row, name: str) -> str:
    value = number(row, name)
    return "–" if value is None else f"{value:.3f}"


def _over_the_stream(found: Sequence[Row]) -> str:
    """Each method's measure after so many edits, the mean of its seeds; and what one sees in it."""
    measure, by_method = measure_of(found), defaultdict(lambda: defaultdict(list))
    for point in found:
        by_method[point["method"]][int(point["edits"] or 0)].append(number(point, measure) or 0.0)
    edits = [n for n in sorted({n for own in by_method.values() for n in own}) if n in (100, 200, 300, 500, 700, 1000)]
    means = {method: [sum(own[n]) / len(own[n]) for n in edits] for method, own in by_method.items()}
    lines = ((str(m), *(f"{x:.3f}" for x in means[m])) for m in sorted(means, key=lambda m: -means[m][-1]))
    table = markdown((f"{measure} after", *(f"{n:,}" for n in edits)), lines)
    return f"{table}\n{fill(' '.join(findings(_first_seed(found), measure)), 120)}\n"


def answers_part() -> str:
    """Each method's answers with the right tokens fed in, and written freely: the answer, and contained in the text."""
    runs = {
        title: {row["method"]: row for row in rows_of(name) if row["dataset"] == dataset}
        for title, (name, dataset) in ANSWERED.items()
    }
    runs = {title: own for title, own in runs.items() if own}
    text, methods = "", sorted({str(method) for own in runs.values() for method in own})
    for kind, words in (("rewrite", "The edit's own prompt"), ("paraphrase", "Paraphrases")):
        lines = ((method, *(_answered(own.get(method, {}), kind) for own in runs.values())) for method in methods)
        text += f"\n{words}:\n\n{markdown(('method', *runs), lines)}"
    return f"{text}\n"


def _answered(row: Row, kind: str) -> str:
    measures = ("exact_match", "generation", "generation_contains")
    fed_in, written, contained = (number(row, f"final.{kind}.{name}") for name in measures)
    if fed_in is None or written is None or contained is None:
        return "–"
    return f"{fed_in:.3f} → {written:.3f} ({contained:.3f})"


def ranks_part() -> str:
    """Whether the order of methods survives another metric, dataset, seed and tuning."""
    lines = []
    for one in ranks():
        tau, low, high = (f"{one[name]:.2f}" if one[name] is not None else "–" for name in ("tau", "low", "high"))
        of = " ".join([one["task"].get("dataset", ""), "" if one["measure"] == "metric" else one["measure"]]).strip()
        pairs = "; ".join(pair.replace(", ", " before ") for pair in one["reversed"]) or "–"
        lines.append((of, one["a"], one["b"], str(one["methods"]), f"{tau} [{low}, {high}]", pairs))
    titles = ("of", "order by", "order by", "methods", "Kendall's τ [95 %]", "in opposite order")
    return f"\n{markdown(titles, lines)}\n"


def sweeps_part() -> str:
    """A table for each experiment that was run."""
    text = ""
    for name, (title, what, measures) in SWEEPS.items():
        if rows := rows_of(name):
            text += f"\n### {title}\n\n{what}\n\n{_table(rows, varied(rows), measures)}"
    return f"{text}\n"


def paper_tables_part() -> str:
    """The papers' main tables: a blank for the paper's model, and the embedded Llama's numbers."""
    text = ""
    for name, (title, what, measures) in PAPER_TABLES.items():
        if rows := rows_of(name):
            lines = (
                (str(row["dataset"]), str(row["method"]), "", *(cell(row, measure) for measure in measures))
                for row in sorted(rows, key=lambda row: (str(row["dataset"]), -_rank(row)))
            )
            titles = ("dataset", "method", "paper's model", *measures.values())
            text += f"\n## {title}\n\n{what}.\n\n{markdown(titles, lines)}"
    return f"{text}\n"


def reasons_part() -> str:
    """Runs of the study with a setting changed, beside those with the settings found."""
    same = ("model", "method", "dataset", "mode")
    tuned = {tuple(row[n] for n in same): row for name in ("embedded", "smollm2_single") for row in rows_of(name)}
    measures = {**HEADLINE, "final.rewrite.generation": "written", "perplexity_ratio": "perplexity ratio"}
    lines = []
    for row in rows_of("reasons"):
        other = tuned[tuple(row[n] for n in same)]
        before, after = settings(other), settings(row)
        changed = ", ".join(f"{name} {before[name]} → {after[name]}" for name in after if after[name] != before[name])
        figures = (f"{_mean(other, name)} → {_mean(row, name)}" for name in measures)
        lines.append((str(row["method"]), f"{row['model']}, {row['dataset']}", changed, *figures))
    return f"\n{markdown(('method', 'of', 'setting', *measures.values()), lines)}\n"


def claims_part() -> str:
    """The claims of each paper with what was found."""
    text = ""
    for paper in dict.fromkeys(claim.paper for claim in CLAIMS):
        lines = [
            (claim.words, verdict(claim), "<br>".join(_in_words(claim.comparisons)), claim.why)
            for claim in CLAIMS
            if claim.paper == paper
        ]
        text += f"\n## {paper}\n\n{markdown(('claim', 'here', 'figures', 'why'), lines)}"
    return f"{text}\n"


def verdict(claim: Claim) -> str:
    """Whether a claim holds: by all of its comparisons, by none, or in part; empty where a figure is missing."""
    found = [outcome(one) for one in claim.comparisons]
    if "" in found:
        return ""
    held = [
        word == "ahead" or (one.keeps and word == "level") for one, word in zip(claim.comparisons, found, strict=True)
    ]
    return "**holds**" if all(held) else "**in part**" if any(held) else "**does not hold**"


def outcome(one: Comparison) -> str:
    """Ahead or behind: outside of both 95 % intervals; level otherwise; empty where a figure is missing."""
    sides = [_ends(side) for side in (one.better, one.worse)]
    if None in sides:
        return ""
    (low, high), (other_low, other_high) = ((-b, -a) if one.small else (a, b) for a, b in filter(None, sides))
    return "ahead" if low > other_high else "behind" if high < other_low else "level"


def _ends(figure: Figure) -> tuple[float, float] | None:
    row = run_of(figure)
    value = number(row, figure.measure) if row else None
    if row is None or value is None:
        return None
    low, high = (number(row, f"{figure.measure}_{end}") for end in ("low", "high"))
    return (value if low is None else low, value if high is None else high)


def run_of(figure: Figure) -> Row | None:
    """The one row that a figure is of; None where it was not run."""
    if figure.after is None:
        rows, where = rows_of(figure.sweep), figure.where
    else:
        rows, where = points(figure.sweep), {**figure.where, "edits": figure.after}
    found = [row for row in rows if all(_is(row, *item) for item in where.items())]
    if len(found) > 1:
        raise ValueError(f"{figure} is of {len(found)} runs of {figure.sweep}.csv; say more in its where")
    return found[0] if found else None


def _is(row: Row, name: str, value: Any) -> bool:
    return bool((row[name] if name in row else settings(row).get(name)) == value)


def _in_words(comparisons: Iterable[Comparison]) -> list[str]:
    """A line for each figure that is compared, with all that it is compared with."""
    lines: dict[str, list[str]] = defaultdict(list)
    for one in comparisons:
        if word := outcome(one):
            place = MODELS.get(one.better.sweep, one.better.where.get("dataset", ""))
            lines[f"{place} {_measure(one.better)}: {_words(one.better)}".strip()].append(
                f"{word} {'with' if word == 'level' else 'of'} {_words(one.worse)}".replace("behind of", "behind")
            )
    return [f"{first}, {'; '.join(others)}" for first, others in lines.items()]


def _measure(figure: Figure) -> str:
    """Its name; under NSE's protocol the paper's."""
    row = run_of(figure)
    own = LIKELIER.get(figure.measure) if row and row["protocol"] == "nse" else None
    return own or figure.measure.rpartition(".")[2]


def _words(figure: Figure) -> str:
    value = number(run_of(figure) or {}, figure.measure)
    return f"{figure.words} {value:.3f}"


def written() -> dict[Path, str]:
    """The text of each page and figure that this script writes."""
    made = {
        **{name: streams_part(name) for name in STREAMS},
        "smollm2_single": single_part(),
        "answers": answers_part(),
        "ranks": ranks_part(),
        "reasons": reasons_part(),
        "sweeps": sweeps_part(),
        "claims": claims_part(),
        "paper_tables": paper_tables_part(),
    }
    streams = {
        picture: _first_seed(_stream(name, dataset))
        for name, datasets in STREAMS.items()
        for dataset, (_, picture) in datasets.items()
    }
    files = {DOCS / picture: figure(found) for picture, found in streams.items() if found}
    for part, page in PAGES.items():
        file = DOCS / page
        text = files.get(file) or file.read_text(encoding="utf-8")
        files[file] = with_part(text, part, "study_tables.py", made[part])
    return files


if __name__ == "__main__":
    for given in map(Path, sys.argv[1:]):
        keep(given)
        keep_ranks()
    for file, text in written().items():
        file.write_text(text, encoding="utf-8")
