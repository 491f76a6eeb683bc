"""``editbench workspace``: one saved view of a Weights & Biases project that fits what the tracker sends.

Curves over the number of edits, a line for the runs that differ in their seed only, with a band from the lowest to the
highest; the runs table with columns of ``leaderboard.csv``; runs grouped by sweep; the table of records.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import util
from typing import Any

from editbench.json_lines import encode
from editbench.results.columns import COLUMNS
from editbench.tracking.wandb import PROJECT, STEP, SWEEP_KEY
from editbench.visible_text import visible

PACKAGE, EXTRA = "wandb_workspaces", "editbench[workspace]"
CURVES = {
    "Right after each batch": ("immediate/reliability", "immediate/generality", "immediate/locality"),
    "All edits so far": ("retained/reliability", "retained/generality", "retained/locality"),
    "The rest of the model": ("perplexity/plain", "drift/weight_change", "drift/hidden_change"),
    "Costs": ("cost/seconds_per_edit", "cost/peak_rss_bytes", "cost/peak_cuda_bytes"),
}
"""By section: the metrics whose curves it shows, each in a panel of its own."""
PINNED = (
    *("method", "hparams", "model", "dataset", "edits", "batch_size", "seed"),
    *("score", "reliability", "generality", "locality", "coverage"),
    *("perplexity_ratio", "seconds_per_edit", "peak_rss_bytes", "peak_cuda_bytes", "status"),
)
"""Columns of the runs table, from the run's summary; each is one of ``leaderboard.csv``."""
assert set(PINNED) <= set(COLUMNS)
SEEDS = "Group"  # of W&B: the tracker gives runs that differ in their seed only the same one


def workspace(entity: str, project: str, name: str) -> Any:
    """The view, not yet saved. A ValueError without the package that makes views."""
    if util.find_spec(PACKAGE) is None:
        raise ValueError(f"a workspace needs the package {PACKAGE}, which is not installed: pip install '{EXTRA}'")
    from wandb_workspaces import expr, workspaces
    from wandb_workspaces.reports.v2 import LinePlot, WeavePanelSummaryTable

    def curve(metric: str) -> Any:
        about = {"groupby": SEEDS, "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax", "max_runs_to_show": 100}
        return LinePlot(title=metric, x=STEP, y=[metric], title_x="edits", **about)

    by_edits = workspaces.SectionPanelSettings(x_axis=STEP)
    sections = [
        workspaces.Section(name=title, panels=list(map(curve, metrics)), is_open=True, panel_settings=by_edits)
        for title, metrics in CURVES.items()
    ]
    records = workspaces.Section(name="Records", panels=[WeavePanelSummaryTable(table_name="records")], is_open=False)
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[*sections, records],
        settings=workspaces.WorkspaceSettings(x_axis=STEP, max_runs=100),
        runset_settings=workspaces.RunsetSettings(
            groupby=[expr.Config(SWEEP_KEY), expr.Metric(SEEDS)],
            pinned_columns=[f"summary:{column}" for column in PINNED],
        ),
    )


def main(arguments: Sequence[str]) -> int:
    """Save the workspace, or print it. Returns the exit status: 0 done, 1 failed."""
    options = _parser().parse_args(list(arguments))
    try:
        if not options.entity:
            raise ValueError("whose workspace? Give --entity USER_OR_TEAM, or set WANDB_ENTITY")
        made = workspace(options.entity, options.project, options.name)
        if options.json:
            print(encode(specification(made)))
            return 0
        print(made.save().url)
    except (ValueError, OSError) as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        return 1
    except Exception as error:  # of the service, which has no common class: no network, no key, no such project
        print(f"error: the workspace was not saved ({type(error).__name__}: {visible(str(error))})", file=sys.stderr)
        return 1
    return 0


def specification(made: Any) -> Mapping[str, Any]:
    """What would be sent to the service, as JSON types."""
    found: Mapping[str, Any] = made._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)
    return found


def _parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="editbench workspace",
        description="Save a workspace in a Weights & Biases project: curves over edits with bands, runs by sweep.",
        epilog="example:\n  editbench workspace --entity my-team --project edits",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    environment = os.environ
    found.add_argument("--entity", default=environment.get("WANDB_ENTITY"), help="user or team (WANDB_ENTITY)")
    project = environment.get("WANDB_PROJECT") or PROJECT
    found.add_argument("--project", default=project, help=f"project (WANDB_PROJECT, else {PROJECT})")
    found.add_argument("--name", default="editbench", help="name of the workspace")
    found.add_argument("--json", action="store_true", help="print what would be saved, and save nothing")
    return found
