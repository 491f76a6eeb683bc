"""The picture of the README: reliability, generality and locality of each method on each dataset, means over seeds.

    python docs/picture.py  # writes docs/table.png from the reference rows; needs plotly, kaleido and Chromium
    python docs/picture.py RESULTS_DIR ...  # the same from runs

Filled marks are constants tuned to the model, open ones the papers'. Bars are 95 % intervals over records and seeds.
"""

import sys
from pathlib import Path

from plotly.subplots import make_subplots

from editbench.results.csv_files import read_csv
from editbench.results.leaderboard import collect, group
from editbench.results.schema import HEADLINES
from editbench.results.selection import where

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference" / "table.csv"
METHODS = ("scen", "rome", "memit", "nse", "finetune", "unedited")
DATASETS = {"counterfact": "CounterFact", "zsre": "ZsRE", "hallucination": "Hallucination (token measures)"}
COLOURS = {"reliability": "#0072b2", "generality": "#e69f00", "locality": "#009e73"}  # Okabe and Ito
SYMBOLS = {"reliability": "circle", "generality": "square", "locality": "diamond"}
SHIFT = {"tuned": 0.14, "published": -0.18}


def rows_of(*folders):
    """The rows pictured, of runs in these folders or of the reference table."""
    rows = collect(*folders) if folders else read_csv(REFERENCE)
    return where(rows, ["edits=100", "model=pocket", "status=done"])


def main(*folders):
    """Draw the runs of 100 edits on the pocket Llama."""
    rows = group(rows_of(*folders))
    page = make_subplots(1, 3, subplot_titles=list(DATASETS.values()), shared_yaxes=True, horizontal_spacing=0.03)
    for column, dataset in enumerate(DATASETS, start=1):
        for measure in HEADLINES:
            for constants, shift in SHIFT.items():
                own = [r for r in rows if (r["dataset"], r["hparams"]) == (dataset, constants)]
                own = [r for r in own if r[measure] is not None]
                page.add_scatter(
                    x=[r[measure] for r in own],
                    y=[len(METHODS) - 1 - METHODS.index(r["method"]) + shift for r in own],
                    error_x={
                        "symmetric": False,
                        "array": [_reach(r, measure, "high") for r in own],
                        "arrayminus": [_reach(r, measure, "low") for r in own],
                        "thickness": 1,
                        "width": 2,
                    },
                    mode="markers",
                    marker={
                        "color": COLOURS[measure],
                        "symbol": SYMBOLS[measure] + ("" if constants == "tuned" else "-open"),
                        "size": 9,
                    },
                    name=f"{measure}, {constants}",
                    legendgroup=measure + constants,
                    showlegend=column == 1,
                    row=1,
                    col=column,
                )
    names = {"tickvals": list(range(len(METHODS))), "ticktext": list(reversed(METHODS))}
    page.update_yaxes(**names, range=[-0.5, len(METHODS) - 0.5], gridcolor="#eeeeee")
    page.update_xaxes(range=[-0.03, 1.03], gridcolor="#dddddd", dtick=0.2)
    legend = {"orientation": "h", "y": -0.12}
    margin = {"l": 70, "r": 15, "t": 40, "b": 70}
    page.update_layout(template="plotly_white", width=1100, height=400, legend=legend, margin=margin)
    page.write_image(Path(__file__).parent / "table.png", scale=1.5)


def _reach(row, measure, end):
    return 0 if row[f"{measure}_{end}"] is None else abs(row[f"{measure}_{end}"] - row[measure])


if __name__ == "__main__":
    main(*sys.argv[1:])
