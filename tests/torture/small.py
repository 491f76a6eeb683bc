"""Small runs that are tortured: a tiny model, five edits in three batches, a saved state after each."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from editbench import checkpoint, compose, single_run
from editbench.config import ResultsConfig, RunConfig
from editbench.results import schema
from tests.small_runs import counterfact_rows, overrides_of, save_model
from tests.tiny_models import LINES, tiny_lm

STREAM = ("stream.edits=5", "stream.batch_size=2", "protocol.stages=[final]")


class Runs:
    """Configs of small runs below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._configs, self._wanted = folder, {}, {}
        (folder / "data.json").write_text(json.dumps(list(counterfact_rows())))
        (folder / "texts.txt").write_text("\n".join(LINES))
        save_model(tiny_lm("gpt2"), folder / "tiny")
        checkpoint.MIN_INTERVAL, checkpoint.MAX_SHARE = 0.0, math.inf

    def config(self, method: str, place: Path) -> RunConfig:
        """The config of a method's run whose results and cache are below ``place``."""
        if method not in self._configs:
            data = [f"dataset.path={self.folder / 'data.json'}", f"model.texts={self.folder / 'texts.txt'}"]
            own = ["dataset=counterfact", f"model.path={self.folder / 'tiny'}", *data, *STREAM]
            self._configs[method] = compose.compose([*overrides_of(method), *own])
        results = ResultsConfig(dir=str(place / "results"), name="run")
        return replace(self._configs[method], results=results, cache=place / "cache")

    def run(self, method: str, place: Path) -> str:
        """Do the run, or go on with it; what it decided."""
        place.mkdir(exist_ok=True)
        return decided(single_run.run(self.config(method, place)).folder)

    def wanted(self, method: str) -> str:
        """What an undisturbed run decides."""
        if method not in self._wanted:
            with self.place() as place:
                self._wanted[method] = self.run(method, place)
        return self._wanted[method]

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A folder for one trial."""
        with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as place:
            yield Path(place)


def decided(folder: Path) -> str:
    """All rows of a run without the times that it took, and its status, as text."""
    status = json.loads((folder / schema.RUN_FILE).read_text())["status"]
    rows = [json.loads(line) for line in (folder / schema.EDITS_FILE).read_text().splitlines()]
    edits = [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
    return json.dumps([status, edits, (folder / schema.SCORES_FILE).read_text().splitlines()])
