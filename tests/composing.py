"""Hydra's node for overrides, without the command line's checks, which cost a second."""

from contextlib import nullcontext

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

PLUGINS = {"joblib": "hydra_joblib_launcher", "ray": "hydra_ray_launcher"}
PLUGINS |= dict.fromkeys(("submitit_local", "submitit_slurm"), "hydra_submitit_launcher")


def need_launcher(name):
    """Skip the test where this launcher is not installed."""
    if name in PLUGINS:
        pytest.importorskip(f"hydra_plugins.{PLUGINS[name]}")


def initialised():
    """One initialisation of Hydra for every :func:`compose` in the block."""
    return initialize_config_module(version_base="1.3", config_module="editbench.conf")


def compose(overrides, hydra=True):
    """The whole configuration, Hydra's own part included if asked for. Methods must be registered."""
    with nullcontext() if GlobalHydra.instance().is_initialized() else initialised():
        return hydra_compose("config", list(overrides), return_hydra_config=hydra)


def jobs_of(overrides):
    """Lists of overrides that Hydra makes of these, one a job."""
    parser = OverridesParser.create()
    single = [o.input_line for o in parser.parse_overrides(list(overrides)) if not o.is_sweep_override()]
    own = {}
    if any(o.startswith("+experiment") for o in single):  # an experiment sweeps by itself
        own = compose(single).hydra.sweeper.params or {}
    every = [*(f"{key}={value}" for key, value in own.items()), *overrides]
    return BasicSweeper.split_arguments(parser.parse_overrides(every), None)[0]


def enough_of(jobs):
    """Jobs in which every value of the sweep is seen."""
    seen, chosen = set(), []
    for job in jobs:
        if not seen.issuperset(job):
            seen.update(job)
            chosen.append(job)
    return chosen
