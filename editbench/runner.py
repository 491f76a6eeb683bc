"""``editbench run``: Hydra composes the configuration, this module checks names first and reports errors last."""

from __future__ import annotations

import difflib
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from editbench import registry
from editbench.config import RunConfig
from editbench.console import conf_names
from editbench.naming import suggestion, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GROUPS = ("method", "model", "dataset", "stream", "protocol", "tracker", "launcher", "experiment", "constants")
CONF = "pkg://editbench.conf"

_failures: list[str] = []
_interrupted = False


def main(arguments: Sequence[str]) -> int:
    """Run what ``arguments`` ask for (Hydra overrides and flags). Returns the exit status."""
    global _interrupted
    _failures.clear()
    _interrupted = False
    try:
        given = _with_model_group(list(arguments))
        register_methods(_methods(given))
        check_overrides(given)
        _say_when_settings_are_for_another_model(given)
    except (ValueError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _stop)
    flags = [a for a in given if a.startswith("-") or "=" not in a]
    sys.argv = ["editbench run", *flags, *(a for a in given if a not in flags)]  # Hydra wants its flags first
    hydra.main(version_base="1.3", config_path=CONF, config_name="config")(_job)()
    if _interrupted:
        return 130
    return 1 if _failures else 0


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
    parsed = [o for o in OverridesParser.create().parse_overrides(_without_flags(overrides))]
    groups = {}
    for override in parsed:
        key = override.key_or_group
        if key in GROUPS:
            known = list(registry.method_entry_points()) if key == "method" else conf_names(key)
            for choice in _values(override):
                if str(choice) not in known:
                    raise unknown(key, str(choice), known)
            groups["+experiment" if key == "experiment" else key] = str(_values(override)[0])
    keys = _keys(_compose([f"{k}={v}" for k, v in groups.items()]))
    for override in parsed:
        key = override.key_or_group
        prefixed = override.is_add() or override.is_force_add() or override.is_delete()
        if key in GROUPS or prefixed or key.split(".")[0] == "hydra" or "@" in key or key in ("method_model",):
            continue
        if key not in keys:
            raise ValueError(f"unknown key {key!r}; {_nearest(key, keys)}")
    for job in _one_job_a_value(parsed):
        _compose(job)


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


def _job(config: DictConfig) -> None:
    """One run; errors are said in one line and do not sink the other jobs of a sweep."""
    global _interrupted
    from editbench import setup
    from editbench.console import show
    from editbench.results.leaderboard import read_row

    if _interrupted:
        return
    quiet_libraries()
    try:
        outcome = setup.run(config)
    except KeyboardInterrupt:
        _interrupted = True
        print(
            "\ninterrupted. Every finished batch is on disk; the same command goes on from the last saved state.",
            file=sys.stderr,
        )
        return
    except Exception as error:  # the run says "failed" with its reason; the other jobs of the sweep go on
        _failures.append(str(error))
        report_failure(error)
        return
    show([read_row(outcome.folder)])
    note = " (done before; results.rerun=true does it again)" if outcome.already_done else ""
    print(f"files: {outcome.folder}{note}")


def _pocket_prompts(count: int) -> list[str]:
    """Prompts about subjects of the embedded world that no record edits or asks about: ``${pocket_prompts:100}``."""
    from editbench.pocket import raw

    return list(raw.generic_prompts(0, count))


def report_failure(error: Exception) -> None:
    """One line for what users can mend; the traceback too for what only we can."""
    if not isinstance(error, (ValueError, OSError, RuntimeError)):
        traceback.print_exception(error)
    print(f"error: {error}", file=sys.stderr)


OmegaConf.register_new_resolver("pocket_prompts", _pocket_prompts, replace=True)  # at import: in workers too


def quiet_libraries() -> None:
    """Our own progress bars and errors are enough."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


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
    """Methods that the jobs may name; an experiment may name any. Hydra composes a sweep's base with the default."""
    if _chosen(arguments, "+experiment"):
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


def _stop(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt
