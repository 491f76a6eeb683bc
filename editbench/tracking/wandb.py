"""Weights & Biases. The ``WANDB_*`` variables hold where the settings say nothing."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from editbench.tracking.base import TrackedRun, Tracker

logger = logging.getLogger(__name__)

STEP, SWEEP_KEY, PROJECT = "edits", "sweep", "editbench"
_MAX_TAG = 64  # the service's limit
_ONLINE_SHARE = 0.5  # of `start_seconds`; the rest is for starting offline if that fails
_FINISH_SHARE = 0.8  # of `finish_seconds`, so that wandb stops waiting first


class WandbTracker(Tracker):
    """A run of Weights & Biases, its files in the run's folder.

    Where the service cannot be reached, or refuses the key, the run is written offline, to be synced later.
    """

    package = install = "wandb"

    def start(self, run: TrackedRun) -> None:
        """Open the run, or continue an interrupted one."""
        mode = self.config.mode or os.environ.get("WANDB_MODE") or "online"
        self._run: Any = self._online_or_offline(run) if mode == "online" else self._init(run, mode)
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One line of the run's history."""
        self._run.log({STEP: step, **values})

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table panel."""
        import wandb

        data = [list(row.values()) for row in rows]
        self._run.log({name: wandb.Table(columns=list(rows[0]), data=data, allow_mixed_types=True)})

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """Write the summary and close the run; it counts as failed unless it is done."""
        self._run.summary.update(dict(summary))
        self._run.finish(exit_code=0 if status == "done" else 1)

    def _online_or_offline(self, run: TrackedRun) -> Any:
        try:
            self._check_service()
            opened = self._init(run, "online")
        except Exception as error:  # network, key, service: wandb has no common class for them
            logger.warning(
                "tracker wandb: %s. Going on offline; later: wandb sync %s/offline-run-*",
                (str(error).strip() or type(error).__name__).splitlines()[0],
                Path(os.environ.get("WANDB_DIR") or run.folder) / "wandb",
            )
            # The service may still hold the failed run, so the offline one needs a key of its own.
            return self._init(replace(run, key=f"{run.key}-offline"), "offline")
        logger.info("tracker wandb: %s", opened.url)
        return opened

    def _check_service(self) -> None:
        """Raise without a key (wandb would ask on the terminal), and where the service refuses it or is not reached."""
        import wandb

        wandb.setup(settings=wandb.Settings(silent=True))
        if not wandb.login(prompt=False, verify=True):
            raise ConnectionError("nobody is logged in (wandb login, or WANDB_API_KEY)")

    def _init(self, run: TrackedRun, mode: Any) -> Any:
        import wandb

        settings = self.config
        tags = [tag[:_MAX_TAG] for tag in run.tags]
        return wandb.init(
            mode=mode,
            config={**run.config, "provenance": dict(run.provenance), SWEEP_KEY: run.sweep},
            resume="allow",
            reinit="create_new",  # a sweep has several runs in one process, one after the other
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_code=True,
                disable_git=True,  # the provenance has the commit
                init_timeout=settings.start_seconds * _ONLINE_SHARE,
                finish_timeout=settings.finish_seconds * _FINISH_SHARE,
            ),
            **_chosen("WANDB_PROJECT", project=settings.project, default=PROJECT),
            **_chosen("WANDB_ENTITY", entity=settings.entity),
            **_chosen("WANDB_RUN_GROUP", group=settings.group, default=run.group),
            **_chosen("WANDB_JOB_TYPE", job_type=None, default=str(run.provenance["method"]["name"])),
            **_chosen("WANDB_TAGS", tags=tags if settings.tags else None, default=tags),
            **_chosen("WANDB_NAME", name=None, default=run.name),
            **_chosen("WANDB_RUN_ID", id=None, default=run.key),
            **_chosen("WANDB_DIR", dir=None, default=str(run.folder)),
        )


def _chosen(variable: str, default: Any = None, **argument: Any) -> dict[str, Any]:
    """An argument of wandb.init: the setting, else left to the environment variable, else the default."""
    [(name, value)] = argument.items()
    if value is None and not os.environ.get(variable):
        value = default
    return {} if value is None else {name: value}
