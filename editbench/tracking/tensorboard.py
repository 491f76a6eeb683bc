"""TensorBoard: event files in ``<run>/tensorboard``; ``tensorboard --logdir results`` shows all runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from editbench.results.columns import COLUMNS
from editbench.tracking.base import TrackedRun, Tracker

MAX_ROWS = 1000  # of a table, which is one text


class TensorBoardTracker(Tracker):
    """Writes scalars; config, provenance, tables and summary as text."""

    package, install = "tensorboard", "editbench[tensorboard]"

    def start(self, run: TrackedRun) -> None:
        """Open an event file; a resumed run gets another one beside the first."""
        from torch.utils import tensorboard

        writer: Any = tensorboard.writer.SummaryWriter
        self._writer: Any = writer(log_dir=str(run.folder / "tensorboard"), flush_secs=10)
        about = {"name": run.name, "group": run.group, "sweep": run.sweep, "tags": list(run.tags)}
        self._about = {"group": run.group, "sweep": run.sweep or ""}
        for name, content in (("run", about), ("config", run.config), ("provenance", run.provenance)):
            self._writer.add_text(name, _code(content))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One scalar a curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A Markdown table."""
        lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows[:MAX_ROWS])]
        text = "\n".join("|" + "|".join(_cell(value) for value in line) + "|" for line in lines)
        left = f"\n\nand {len(rows) - MAX_ROWS} more" if len(rows) > MAX_ROWS else ""
        self._writer.add_text(name, text + left)

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """Write the summary, also as a line of the tab "HParams", and close the file."""
        self._writer.add_text("summary", _code(summary))
        words = {name: value for name, value in summary.items() if isinstance(value, str)}
        figures = {name: value for name, value in summary.items() if name in COLUMNS and name not in words}
        self._writer.add_hparams({**words, **self._about}, figures, run_name=".")
        self._writer.close()


def _code(content: Mapping[str, Any]) -> str:
    return "\n".join(f"    {line}" for line in json.dumps(content, indent=2, default=str).splitlines())


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
