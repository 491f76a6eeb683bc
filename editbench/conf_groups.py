"""Config groups (``method=``, ``launcher=``, …) and the choices that each takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from editbench import plugins, registry
from editbench.checks import unknown
from editbench.hub_names import place_hint

GROUPS = ("method", "model", "dataset", "stream", "protocol", "ability", "tracker", "launcher", "experiment", "hparams")
LAUNCHER_PLUGINS = {
    "joblib": ("hydra_joblib_launcher", "launchers"),
    "submitit_local": ("hydra_submitit_launcher", "launchers"),
    "submitit_slurm": ("hydra_submitit_launcher", "launchers"),
    "ray": ("hydra_ray_launcher", "ray"),
}
"""By launcher: Hydra's plugin, and the extra that installs it."""


def conf_names(group: str, more: Iterable[str] = ()) -> list[str]:
    """Names of the YAML files of a config group, here and in the user's folders ``more``."""
    import editbench.conf

    folders = [Path(p) / group for p in (*editbench.conf.__path__, *more)]
    files = ((folder, file) for folder in folders for file in folder.rglob("*.yaml"))
    return sorted({file.relative_to(folder).with_suffix("").as_posix() for folder, file in files})


def choices(group: str) -> list[str]:
    """Names that ``group=`` takes: YAML files, and what installed packages register."""
    registered = {"method": plugins.METHODS, "dataset": plugins.DATASETS, "tracker": plugins.TRACKERS}
    found = {*conf_names(group), *(plugins.entry_points(registered[group]) if group in registered else ())}
    methods = plugins.entry_points(plugins.METHODS)
    if group == "hparams":
        found |= {name for method in methods for name in registry.hparams_names(method)}
    elif group == "model":  # a method's package may have settings for a model without a file here
        files = {file.stem for method in methods for file in registry.hparams_folder(method).glob("*/*.yaml")}
        found |= files - {"any", *(f"{name}-{dataset}" for name in files for dataset in choices("dataset"))}
    return sorted(found)


def check_choice(group: str, choice: Any, folders: Sequence[str]) -> None:
    """A ValueError for a choice that a group has not, with what is near, or for a launcher that is not installed."""
    known = sorted({*choices(group), *conf_names(group, folders)})
    if hint := place_hint(group, str(choice), known):
        raise ValueError(f"unknown {group} {str(choice)!r}; {hint}")
    if str(choice) not in known and not (group == "hparams" and choice is None):
        raise unknown(group, str(choice), known)
    plugin, extra = LAUNCHER_PLUGINS.get(str(choice), ("", "")) if group == "launcher" else ("", "")
    if plugin and (find_spec("hydra_plugins") is None or find_spec(f"hydra_plugins.{plugin}") is None):
        raise ValueError(
            f"launcher={choice} needs the package {plugin.replace('_', '-')}, which is not installed: "
            f"pip install 'editbench[{extra}]'"
        )
