"""``editbench run``: Hydra composes the configuration, this module checks names first and reports errors last."""

from __future__ import annotations

import difflib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from editbench import registry
from editbench.checks import suggestion, unknown
from editbench.config import RunConfig, model_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


GROUPS = (
    "method",
    "model",
    "dataset",
    "stream",
    "protocol",
    "ability",
    "tracker",
    "launcher",
    "experiment",
    "hparams",
)

CONF = "editbench.conf"

LAUNCHER_PLUGINS = {
    "joblib": ("hydra_joblib_launcher", "launchers"),
    "submitit_local": ("hydra_submitit_launcher", "launchers"),
    "submitit_slurm": ("hydra_submitit_launcher", "launchers"),
    "ray": ("hydra_ray_launcher", "ray"),
}
"""By launcher: Hydra's plugin, and the extra that installs it."""


def compose(overrides: Sequence[str]) -> Any:
    """The configuration that ``editbench run`` would use for these overrides.

    Raises:
        ValueError: An unknown name or key, or a value of the wrong type.
    """
    given = _with_model_group(list(overrides))
    register_methods(_methods(given))
    check_overrides(given)
    _say_when_settings_are_for_another_model(given)
    return _compose(given)


def register_methods(names: Sequence[str]) -> None:
    """Make every method of ``names`` a choice of the group ``method``, with its config dataclass's defaults.

    Raises:
        ValueError: One of them is not registered.
    """
    store = ConfigStore.instance()
    store.store(name="run_schema", node=RunConfig)
    for name in names:
        defaults = OmegaConf.create({"name": name})
        config = OmegaConf.merge(
            defaults, OmegaConf.to_container(OmegaConf.structured(registry.load_method(name).config_class))
        )
        store.store(group="method", name=name, node=config)


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse unknown choices and keys with a did-you-mean, before Hydra starts.

    Raises:
        ValueError: The first thing that is wrong.
    """
    from editbench.compose import check_hparams

    parsed = [o for o in OverridesParser.create().parse_overrides(_without_flags(overrides))]
    groups = {}
    for override in parsed:
        key = override.key_or_group
        if key in GROUPS:
            known = list(registry.method_entry_points()) if key == "method" else conf_names(key)
            for choice in _values(override):
                if str(choice) not in known:
                    raise unknown(key, str(choice), known)
                if key == "launcher":
                    _check_launcher(str(choice))
            groups["+experiment" if key == "experiment" else key] = str(_values(override)[0])
    config = _compose([f"{k}={v}" for k, v in groups.items()])
    keys, method_class = _keys(config), registry.load_method(config.method.name).config_class
    for override in parsed:
        key = override.key_or_group
        prefixed = override.is_add() or override.is_force_add() or override.is_delete()
        if key in GROUPS or prefixed or key.split(".")[0] == "hydra" or "@" in key or key in ("method_model",):
            continue
        if key not in keys:
            hint = registry.moved(method_class, key.removeprefix("method.")) or _nearest(key, keys)
            raise ValueError(f"unknown key {key!r}; {hint}")
    for job in _one_job_a_value(parsed):
        check_hparams(_compose(job))


def _check_launcher(name: str) -> None:
    """Refuse a launcher whose plugin is not installed."""
    plugin, extra = LAUNCHER_PLUGINS.get(name, ("", ""))
    if plugin and (find_spec("hydra_plugins") is None or find_spec(f"hydra_plugins.{plugin}") is None):
        raise ValueError(
            f"launcher={name} needs the package {plugin.replace('_', '-')}, which is not installed: "
            f"pip install 'editbench[{extra}]'"
        )


def _say_when_settings_are_for_another_model(arguments: Sequence[str]) -> None:
    """Warn where a method would run on its defaults, which are another model's, because no cell fits the pair."""
    cells = conf_names("method_model")
    if any(a.startswith("method.layer") for a in arguments):
        return
    for method in _chosen(arguments, "method") or ["rome"]:
        for model in _chosen(arguments, "model") or ["pocket"]:
            layered = any(cell.startswith(f"{method}-") for cell in cells)
            if layered and f"{method}-{model}" not in cells:
                print(
                    f"note: no settings of {method} for {model} are known; its defaults were made for another model. "
                    "Set at least method.layer or method.layers",
                    file=sys.stderr,
                )


def _one_job_a_value(overrides: Sequence[Any]) -> Iterator[list[str]]:
    """The first job of a sweep, and one for every further value: enough to see each value once."""
    own = [o for o in overrides if not o.key_or_group.startswith("hydra.")]
    first = [f"{o.key_or_group}={_texts(o)[0]}" if o.is_sweep_override() else str(o.input_line) for o in own]
    yield first
    for place, override in enumerate(own):
        for value in _texts(override)[1:]:
            yield [*first[:place], f"{override.key_or_group}={value}", *first[place + 1 :]]


def _pocket_prompts(count: int) -> list[str]:
    """Prompts about subjects of the embedded world that no record edits or asks about: ``${pocket_prompts:100}``."""
    from editbench.pocket import dataset_files

    return list(dataset_files.generic_prompts(0, count))


OmegaConf.register_new_resolver("pocket_prompts", _pocket_prompts, replace=True)  # at import: in workers too


def _compose(overrides: Sequence[str]) -> Any:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module

    with initialize_config_module(version_base="1.3", config_module="editbench.conf"):
        try:
            return hydra_compose("config", overrides=list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            cause = str(error.__cause__ or "").split("\n")[0]
            raise ValueError(": ".join(filter(None, [str(error).split("\n")[0], cause]))) from error


def _with_model_group(arguments: list[str]) -> list[str]:
    """``model.path=X`` alone means the config named like X, or else the empty one: never pocket's settings."""
    from editbench.pocket import MODELS

    paths = [a.partition("=")[2].strip("'\"") for a in arguments if a.startswith("model.path=")]
    if not paths or any(a.startswith("model=") for a in arguments):
        return arguments
    if paths[0] in MODELS:
        return [f"model={paths[0]}" if a.startswith("model.path=") else a for a in arguments]
    name = Path(paths[0]).name.lower()
    return [*arguments, f"model={name if name in conf_names('model') else 'custom'}"]


def _chosen(arguments: Sequence[str], group: str) -> list[str]:
    for argument in arguments:
        if argument.startswith(f"{group}="):
            return [name.strip() for name in argument.partition("=")[2].split(",") if name.strip()]
    return []


def _methods(arguments: Sequence[str]) -> list[str]:
    """Methods that the jobs may name; an experiment may name any, the help names all.

    Hydra composes a sweep's base with the default.
    """
    if _chosen(arguments, "+experiment") or {"--help", "-h"} & set(arguments):
        return list(registry.method_entry_points())
    return ["rome", *_chosen(arguments, "method")]


def _values(override: Any) -> list[Any]:
    return list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]


def _texts(override: Any) -> list[str]:
    return [str(t) for t in override.sweep_string_iterator()] if override.is_sweep_override() else []


def _without_flags(arguments: Sequence[str]) -> list[str]:
    return [a for a in arguments if "=" in a and not a.startswith("-")]


def _keys(config: Any, prefix: str = "") -> list[str]:
    found = []
    for key in config:
        name = f"{prefix}{key}"
        found.append(name)
        value = OmegaConf.to_container(config, resolve=False)[key]  # type: ignore[index, call-overload]
        if isinstance(value, dict):
            found += _keys(config[key], f"{name}.")
    return found


def _nearest(key: str, keys: Sequence[str]) -> str:
    """Nearest key; the last part of a key counts most (``edits`` for ``stream.edits``)."""
    same_leaf = [k for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]]
    if same_leaf:
        return f"did you mean {same_leaf[0]!r}?"
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    section = key.rpartition(".")[0]
    inside = [k for k in keys if k.startswith(f"{section}.")] if section in keys else [k for k in keys if "." not in k]
    return suggestion(key, inside)


def conf_names(group: str) -> list[str]:
    """Names of the YAML files of a config group."""
    import editbench.conf

    folders = [Path(p) / group for p in editbench.conf.__path__]
    files = ((folder, file) for folder in folders for file in folder.rglob("*.yaml"))
    return sorted({file.relative_to(folder).with_suffix("").as_posix() for folder, file in files})


PAPERS_MODELS = ("gpt2-xl", "gpt-j-6b", "llama-2-7b", "llama-2-13b", "llama-3-8b")


def check_hparams(config: Any) -> None:
    """Refuse a set of constants that the method has not, and "published" where the model's own settings are these.

    Raises:
        ValueError: So it is.
    """
    constants, method, model = config.hparams, config.method.name, model_name(config)
    if constants == "tuned":
        return
    if constants == "published" and model in PAPERS_MODELS and f"{method}-{model}" in conf_names("method_model"):
        raise ValueError(f"hparams={constants}: the settings for {model} are the published ones; leave it out")
    if f"{method}-{constants}" not in conf_names("method_constants"):
        raise ValueError(f"hparams={constants}: none are known for {method}; leave it out")
