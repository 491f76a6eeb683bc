"""``editbench explain KEY``: a setting in words; and one line for each, for ``editbench run --help``."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from editbench import compose, conf_groups, plugins, registry
from editbench.config import DatasetConfig
from editbench.jobs import SECTIONS, nearest
from editbench.json_lines import encode
from editbench.setting_words import Setting, settings_of

HEADER = """editbench run [-m] [--json] KEY=VALUE ...: edit a stream of facts into a model and score it.
editbench precompute [-m] [--json] KEY=VALUE ...: fill the cache for such runs, in parts (precompute.*).

  -m                a sweep: one job for each combination of values, as in stream.seed=0,1,2
  --json            one line of JSON a finished job on standard output, everything else on standard error
  --config-dir DIR  your own experiments: DIR/experiment/NAME.yaml, as +experiment=NAME
  --cfg job         show the configuration that would be used
"""
FOOTER = """Results go to results.dir; the same command finds its run again. `editbench explain KEY` says more,
`editbench list methods` (datasets, models, …) what there is, `--hydra-help` shows Hydra's own flags."""
REGISTERED = ("method", "dataset")
"""Sections whose settings are declared by what is chosen."""
WIDEST = 44
"""Columns of a setting with its value, where its words begin."""


@dataclass
class TopLevel:
    """Settings that stand in no section. All but the last two choose a YAML file or what a package registers.

    Attributes:
        method: Editing method, by name.
        model: Model with its settings, by name; any other one with model.path.
        dataset: Layout of the records, by name; your own records are "custom".
        stream: Settings of the stream, by name.
        protocol: Metrics, stages and headline, by name.
        ability: Tests of general ability, by name.
        tracker: Live dashboard, by name.
        launcher: Where the jobs of a sweep run.
        experiment: Ready settings of a whole command, by name, with a plus sign: +experiment=NAME.
        hparams: Set of the method's settings for the model; null takes tuned before published before by_hand.
        cache: Folder with covariance, values and unedited answers, shared by all runs; EDITBENCH_CACHE, or the user's
            cache folder of the platform.
        threads: Threads of torch's operations in a new run; null for one with small models, more with larger ones, up
            to the job's cores.
    """

    method: str = "rome"
    model: str = "pocket"
    dataset: str = "counterfact"
    stream: str = "default"
    protocol: str = "default"
    ability: str = "none"
    tracker: str = "none"
    launcher: str = "local"
    experiment: str | None = None
    hparams: str | None = None
    cache: str | None = None
    threads: int | None = None


def settings_with(choices: Mapping[str, str]) -> dict[str, Setting]:
    """All settings of a run by key, in the order of ``--help``, for its method, dataset and tracker."""
    own = settings_of(TopLevel)
    found = [
        replace(s, allowed=", ".join(conf_groups.choices(s.key))) if s.key in conf_groups.GROUPS else s for s in own
    ]
    method = registry.load_method(choices["method"]).config_class
    found += settings_of(method, "method")
    for section, cls in compose.SCHEMA.items():
        if isinstance(cls, type) and is_dataclass(cls):
            found += settings_of(cls, section)
        elif section == "dataset":
            shared = {f.name for f in fields(DatasetConfig)} - {"name", "settings"}
            found += [s for s in settings_of(DatasetConfig, section) if s.key.partition(".")[2] in shared]
            found += settings_of(plugins.load(plugins.DATASETS, choices["dataset"], "dataset").settings, section)
    if choices["tracker"] in plugins.entry_points(plugins.TRACKERS):
        own = plugins.load(plugins.TRACKERS, choices["tracker"], "tracker").Settings
        found += settings_of(own, "tracker.settings")
    return {setting.key: setting for setting in found}


def help_text(overrides: Sequence[str]) -> str:
    """The help of ``editbench run``, with one line for each setting and its value with these overrides."""
    node = compose.compose_node(overrides, hydra=True)
    lines, section = [HEADER], ""
    for key, setting in settings_with(node.hydra.runtime.choices).items():
        before, section = section, key.partition(".")[0] if "." in key else ""
        if section != before:
            lines.append(f"\n{section} {node.hydra.runtime.choices[section]}:" if section in SECTIONS else "")
        lines.append(_line(setting, node))
    return "\n".join([*lines, "", FOOTER])


def main(arguments: Sequence[str]) -> int:
    """Show settings in words. A ValueError names an unknown one, with the nearest."""
    parser = argparse.ArgumentParser(prog="editbench explain", description="A setting of editbench run in words.")
    parser.add_argument("key", metavar="KEY", help="method.layers, memit.layers, stream.seed, hparams, …; or a section")
    parser.add_argument("choices", nargs="*", metavar="GROUP=NAME", help="method=memit, dataset=zsre, model=gpt2-xl, …")
    parser.add_argument("--json", action="store_true", help="one line of JSON a setting")
    options = parser.parse_args(arguments)
    found, node = explain(options.key, options.choices)
    for setting, of in found:
        if options.json:
            print(encode({**vars(setting), "of": of, "value": _value(setting, node)}))
        elif len({other.key for other, _ in found}) > 1:
            print(_line(setting, node))
        else:
            print(_in_words(setting, of, node))
    return 0


def explain(key: str, overrides: Sequence[str] = ()) -> tuple[list[tuple[Setting, list[str]]], DictConfig]:
    """Settings of this key, or of a section, each with the methods or datasets that declare it so; and a run's node.

    They are those of the chosen method and dataset; without a choice those of all that have the key.
    """
    name, dot, rest = key.partition(".")
    owners = [section for section in SECTIONS if name in conf_groups.choices(section) and name != "default"]
    if owners:  # memit.layers
        key, overrides = f"{owners[0]}{dot}{rest}", [*overrides, f"{owners[0]}={name}"]
    section = key.partition(".")[0]
    node = compose.compose_node(compose.check(overrides).only, hydra=True)
    base = dict(node.hydra.runtime.choices)
    every = section in REGISTERED and "." in key and not any(o.startswith(f"{section}=") for o in overrides)
    found: list[tuple[Setting, list[str]]] = []
    known: dict[str, None] = {}
    for choice in conf_groups.choices(section) if every else [base.get(section, "")]:
        settings = settings_with({**base, section: choice})
        known.update(dict.fromkeys(settings))
        for setting in (s for k, s in settings.items() if k == key or k.startswith(f"{key}.")):
            of = next((of for same, of in found if same == setting), None)
            if of is None:
                found.append((setting, of := []))
            of += [choice] if section in REGISTERED else []
    if not found:
        if "." not in key:  # a setting without its section
            every_method = [settings_with({**base, "method": name}) for name in conf_groups.choices("method")]
            known = {**dict.fromkeys(k for settings in every_method for k in settings), **known}
        raise ValueError(f"unknown key {key!r}; {nearest(key, list(known))}")
    return found, node


def _line(setting: Setting, node: DictConfig) -> str:
    left, width = f"{setting.key}={_text(_value(setting, node))}", shutil.get_terminal_size((120, 24)).columns
    return _cut(f"  {_cut(left, WIDEST):<{WIDEST}}  {setting.line}", max(80, width))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 2]} …"


def _value(setting: Setting, node: DictConfig) -> Any:
    """The setting's value in a run; the name of what is chosen."""
    choices = node.hydra.runtime.choices
    if setting.key in conf_groups.GROUPS and setting.key != "hparams":
        return choices.get(setting.key)
    value = OmegaConf.select(node, setting.key)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _in_words(setting: Setting, of: Sequence[str], node: DictConfig) -> str:
    value, run = _value(setting, node), node.hydra.runtime.choices
    rows = {
        "of": ", ".join(of),
        "type": setting.type,
        "default": _text(setting.default),
        "in a run": f"{_text(value)} (method={run.method} model={run.model} dataset={run.dataset})",
        "allowed": setting.allowed,
        "declared": setting.declared,
    }
    if (of and run[setting.key.partition(".")[0]] not in of) or _text(value) == rows["default"]:
        del rows["in a run"]
    facts = [f"  {name:<10}{row}" for name, row in rows.items() if row]
    return "\n".join(
        [setting.key, *textwrap.wrap(setting.words, 100, initial_indent="  ", subsequent_indent="  "), *facts]
    )


def _text(value: Any) -> str:
    """A value as on the command line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
