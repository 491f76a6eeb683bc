"""Hydra's node for overrides, without the command line's checks, which cost a second."""

from contextlib import nullcontext

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from editbench import compose as composing_module

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
    """Lists of overrides that these make for Hydra, one a job."""
    command = composing_module.check(overrides)
    return [[*job, *command.hydra] for job in command.jobs]


def first_job(overrides):
    """The first job as it is written: nothing is checked, and no method need be installed."""
    return BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(list(overrides)), None)[0][0]


def enough_of(jobs):
    """Jobs in which every value of the sweep is seen."""
    seen, chosen = set(), []
    for job in jobs:
        if not seen.issuperset(job):
            seen.update(job)
            chosen.append(job)
    return chosen
