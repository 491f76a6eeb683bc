"""Overrides to a typed :class:`RunConfig`, checked with did-you-means."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from editbench import config, fetched, plugins, registry
from editbench.checks import unknown
from editbench.conf_groups import GROUPS, check_choice, choices, conf_names
from editbench.config import DatasetConfig, MethodConfig, RunConfig
from editbench.job_hparams import without_unknown_hparams
from editbench.jobs import SECTIONS, Command, Names, check_keys, expand
from editbench.model_places import SHIPPED_MODELS
from editbench.override_errors import in_words

CONF = "editbench.conf"
SEARCHPATH = "hydra.searchpath"
_NUMBER = re.compile(r"[+-]?[\d._]+([eE][+-]?\d+)?")
SCHEMA = {
    "method": MISSING,
    "model": config.ModelConfig,
    "dataset": MISSING,
    "stream": config.StreamConfig,
    "protocol": config.ProtocolConfig,
    "tracker": config.TrackerConfig,
    "results": config.ResultsConfig,
    "precompute": config.PrecomputeConfig,
    "hparams": None,
    "cache": MISSING,
    "threads": None,
}


def compose(overrides: Sequence[str]) -> RunConfig:
    """The config that ``editbench run`` would use for these overrides. A ValueError names the first mistake."""
    return parse(compose_node(check(overrides).only))


def check(overrides: Sequence[str]) -> Command:
    """The jobs of overrides. Unknown choices and keys are refused with a did-you-mean, before Hydra starts."""
    parsed = OverridesParser.create().parse_overrides(_with_model_group(overrides))
    methods = _chosen(parsed, "method")
    folders = [str(place).partition("://")[2] for o in parsed if o.key_or_group == SEARCHPATH for place in o.value()]
    every, groups = _chosen(parsed, "experiment"), {}
    register([name for name in plugins.entry_points(plugins.METHODS) if every or name in ("rome", *methods)])
    for override in parsed:
        key = override.key_or_group
        if key == "experiment" and not override.is_add():
            raise ValueError(f"{override.input_line} needs a plus sign: +{override.input_line}")
        if key in GROUPS:
            for choice in values(override):
                check_choice(key, choice, folders)
            groups["+experiment" if key == "experiment" else key] = str(values(override)[0])
    own = [o.input_line for o in parsed if o.is_hydra_override()]
    chosen = tuple(f"{key}={choice}" for key, choice in groups.items())
    base = compose_node([*chosen, *own], hydra=True) if own else _base(chosen)  # a user's own files may change
    names, task = _names(base, folders), [o for o in parsed if o.input_line not in own]
    own_groups = {group.name for folder in folders for group in Path(folder).glob("*/")}  # in a user's own files
    check_keys(task, {*_keys(_plain(base)), *GROUPS, *own_groups}, names)
    decimals = {key for key in map(names.shared, (o.key_or_group for o in task)) if _is_decimal(base, key)}
    jobs, notes = expand(task, base.hydra.sweeper.get("params") or {}, names)
    jobs, more = without_unknown_hparams(jobs, names.default)
    for note in [*notes, *more]:
        print(f"note: {note}", file=sys.stderr)
    _note_unknown_pairs(methods or ["rome"], parsed)
    sweep, launcher = base.hydra.mode == RunMode.MULTIRUN, str(base.hydra.runtime.choices.launcher)
    return Command(jobs, own, sweep, launcher, decimals)


def _is_decimal(base: DictConfig, key: str) -> bool:
    return isinstance(OmegaConf.select(base, key, throw_on_resolution_failure=False), float)


_OWN = ("hydra", "method", "tracker")  # sections whose settings are known by the choice


def _free(node: DictConfig) -> Iterator[str]:
    """Keys of the mappings in a section whose names are the user's."""
    for section in map(str, node):
        part: Any = node._get_node(section)
        inside = isinstance(part, DictConfig) and section not in _OWN
        for key in map(str, part if inside else ()):
            if isinstance(one := part._get_node(key), DictConfig) and one._metadata.object_type is dict:
                yield f"{section}.{key}"


@cache
def _base(chosen: tuple[str, ...]) -> DictConfig:
    """The node of these choices of groups, for its keys; a process asks for few of them, often."""
    return compose_node(chosen, hydra=True)


def _names(base: DictConfig, folders: Sequence[str]) -> Names:
    """Names of keys, with the choices of a composed node."""
    known = {section: [*choices(section), *conf_names(section, folders)] for section in SECTIONS}
    sections = {name: section for section in reversed(SECTIONS) for name in known[section]}
    default = {section: str(base.hydra.runtime.choices[section]) for section in SECTIONS}
    return Names(sections, _keys_of, default, [*_free(base)])


@cache
def _keys_of(section: str, choice: str) -> list[str]:
    """Keys of a section's choice: "method.layer", …"""
    if section == "method":
        _store_method(choice)
    if section == "model":
        node: Any = OmegaConf.structured(config.ModelConfig)
    else:
        node = ConfigStore.instance().load(f"{section}_config/{choice}.yaml").node
    return _keys(_plain({section: node}))


def given(overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Values of the method's settings, and choices of groups ("model"), that overrides name; both as in YAML."""
    parsed = OverridesParser.create().parse_overrides(_with_model_group(overrides))
    settings = {o.key_or_group.removeprefix("method."): o.value() for o in parsed if o.key_or_group[:7] == "method."}
    return settings, {o.key_or_group: str(o.value()) for o in parsed if o.key_or_group in GROUPS}


def written_out(argument: str) -> str:
    """An argument as Hydra reads it: a value that is no value of its grammar in quotes, a new field added.

    A ValueError for what is neither KEY=VALUE nor ``~KEY`` nor a flag.
    """
    key, equals, value = argument.partition("=")
    if argument.startswith("-") or (argument.startswith("~") and not equals):
        return argument
    if not (equals and key):
        raise ValueError(f"{argument!r} is no setting; settings are KEY=VALUE, as in method=rome")
    if key.startswith("dataset.") and key.endswith("path") and _NUMBER.fullmatch(value):
        return f"{key}='{value}'"  # a file may be named 1e3, which is 1000.0 in YAML
    if key.startswith("dataset.fields."):  # a mapping, whose keys are the user's
        key = f"++{key}"
    try:
        OverridesParser.create().parse_override(f"{key}={value}")
    except HydraException:  # a path with other letters, spaces, brackets, "=", …
        ends = "\\" * (len(value) - len(value.rstrip("\\")))
        value = '"{}{}"'.format(value.replace('"', '\\"'), ends)
    return f"{key}={value}"


def compose_node(overrides: Sequence[str], *, hydra: bool = False) -> DictConfig:
    """Hydra's node for these overrides, without the checks of :func:`check`, with Hydra's own part if asked for.

    Methods must be registered.
    """
    with initialize_config_module(version_base="1.3", config_module=CONF):
        try:
            node: DictConfig = hydra_compose("config", list(overrides), return_hydra_config=hydra)
            return node
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(in_words(error)) from error


def parse(node: DictConfig) -> RunConfig:
    """The typed and checked config of Hydra's node, its protocol resolved for the dataset."""
    if missing := sorted(OmegaConf.missing_keys(node)):
        raise ValueError(f"{missing[0]} is not set; give {missing[0]}=VALUE")
    try:
        plain: Any = OmegaConf.to_object(OmegaConf.masked_copy(node, list(SCHEMA)))
    except OmegaConfBaseException as error:
        raise ValueError(in_words(error)) from error
    del plain["hparams"]
    method, origin = plain["method"].pop("name"), _origin(node)
    del plain["method"]["hparams"]
    tuning = tuple(map(Path, plain["method"].pop("tuning")))
    settings = registry.make_config(method, registry.load_method(method).config_class, plain["method"])
    protocol = plain["protocol"].for_dataset(plain["dataset"]["name"])
    dataset = _dataset(plain["dataset"], protocol, plain["stream"])
    made = {"method": MethodConfig(method, origin, settings, tuning), "dataset": dataset, "protocol": protocol}
    return RunConfig(**{**plain, **made, "cache": Path(plain["cache"])})


def register(methods: Sequence[str]) -> None:
    """Store the schema, the choices without a YAML file, and the defaults of ``methods`` and of all datasets."""
    store = ConfigStore.instance()
    store.store(name="run_schema", node=SCHEMA)
    for name in choices("hparams"):
        store.store(group="hparams", name=name, node={"hparams": name}, package="_global_")
    for name in set(choices("model")) - set(conf_names("model")):
        store.store(group="model", name=name, node={"path": MISSING})
    for name in set(choices("tracker")) - set(conf_names("tracker")):
        own = OmegaConf.structured(plugins.load(plugins.TRACKERS, name, "tracker").Settings)
        store.store(group="tracker", name=name, node={"name": name, "settings": OmegaConf.to_container(own)})
    for name in methods:
        _store_method(name)
    for name in plugins.entry_points(plugins.DATASETS):
        _store_dataset(name)


def values(override: Any) -> list[Any]:
    """Values that an override takes in turn: several in a sweep."""
    return list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]


def _hparams_label(method: str, model: str, dataset: str, wanted: str | None) -> str:
    """Name in the group ``method_hparams`` of the settings that fit: ``${hparams:METHOD,MODEL,DATASET,WANTED}``."""
    origin, files = registry.find_hparams(method, model, dataset, wanted)
    return "+".join([method, str(origin), *(f"{file.parent.name}.{file.stem}" for file in files)])


@cache
def _store_method(name: str) -> None:
    """Store a method's defaults, and all settings that :func:`_hparams_label` may name, each with its origin."""
    own = {"/method_hparams@_here_": f"${{hparams:{name},${{model}},${{dataset}},${{oc.select:hparams}}}}"}
    _store("method", name, {"name": name}, registry.load_method(name).config_class, own)
    models = {file.stem for file in registry.hparams_folder(name).rglob("*.yaml")} | {""}
    load_yaml = cache(OmegaConf.load)
    keys = product([name], models, choices("dataset"), (None, *registry.hparams_names(name)))
    for label, key in {_hparams_label(*key): key for key in keys}.items():  # most data sets have none of their own
        origin, files = registry.find_hparams(*key)
        tuning = [str(found) for file in files if (found := file.with_suffix(".json")).is_file()]
        node = OmegaConf.merge({"hparams": origin, "tuning": tuning}, *map(load_yaml, files))
        ConfigStore.instance().store(group="method_hparams", name=label, node=node)


@cache
def _store_dataset(name: str) -> None:
    own = {"name": name, "path": MISSING, "limit": None, "on_error": "raise", "split": None}
    _store("dataset", name, own, plugins.load(plugins.DATASETS, name, "dataset").settings)


def _store(group: str, name: str, own: dict[str, Any], settings: type, *more: dict[str, str]) -> None:
    """Store the defaults of a method or dataset, and its choice in the group if that has no YAML file."""
    store, defaults = ConfigStore.instance(), OmegaConf.to_container(OmegaConf.structured(settings))
    store.store(group=f"{group}_config", name=name, node=OmegaConf.merge(own, defaults))
    if name not in conf_names(group):
        store.store(group=group, name=name, node={"defaults": [{f"/{group}_config@_here_": name}, *more]})


def _default_records(model: str) -> str:
    """Path of a data set without one, by its model: ``${default_records:${oc.select:model.path,""}}``."""
    return fetched.FETCHED if model in fetched.MODELS else "pocket"


def _facts_test(model: str) -> str:
    """Test of general ability by facts that a model knows: ``${facts_test:${model.path}}``."""
    return "pocket" if model in SHIPPED_MODELS else "known"


def _expanded(folder: str) -> str:
    """A folder with its "~" expanded, where Hydra itself writes: ``${expanded:${results.dir}}``."""
    return str(Path(folder).expanduser())


# At import, so that workers of a launcher know them too.
OmegaConf.register_new_resolver("pocket_prompts", registry.pocket_prompts, replace=True)
OmegaConf.register_new_resolver("hparams", _hparams_label, replace=True)
OmegaConf.register_new_resolver("cache_folder", lambda: str(fetched.cache_folder()), replace=True)
OmegaConf.register_new_resolver("expanded", _expanded, replace=True)
OmegaConf.register_new_resolver("facts_test", _facts_test, replace=True)
OmegaConf.register_new_resolver("default_records", _default_records, replace=True)


def _origin(node: DictConfig) -> str | None:
    """Origin of the method's settings; a ValueError if ``hparams=NAME`` has nothing for this method and model."""
    method, wanted, origin = str(node.method.name), node.hparams, node.method.hparams
    if wanted not in (None, origin):
        known = ", ".join(registry.hparams_names(method)) or "none"
        raise ValueError(f"hparams={wanted}: none are known for {method} with this model; known: {known}")
    return str(origin) if origin else None


def _dataset(plain: dict[str, Any], protocol: config.ProtocolConfig, stream: config.StreamConfig) -> DatasetConfig:
    """The dataset's config with the protocol's settings; a ValueError if the user asked for other values."""
    name, path, limit, on_error, split = (plain.pop(key) for key in ("name", "path", "limit", "on_error", "split"))
    settings = plugins.load(plugins.DATASETS, name, "dataset").settings
    defaults = {f.name: f.default for f in fields(settings)}
    for key, value in protocol.data.items():
        if key in plain and plain[key] not in (value, defaults.get(key)):
            raise ValueError(
                f"protocol={protocol.name} reads {name} with {key}={value!r}, but dataset.{key}={plain[key]!r} "
                f"was asked for; leave it out, or change it with protocol.data.{name}.{key}"
            )
    plain |= protocol.data
    for key in plain:
        if key not in defaults:
            raise unknown(f"setting of {name}", key, defaults)
    if stream.sample == "first" and limit is None:
        limit = stream.edits  # records beyond need not be read
    return DatasetConfig(name, path, limit, on_error, settings(**plain), split)


def _note_unknown_pairs(methods: Sequence[str], overrides: Sequence[Any]) -> None:
    """Print a note where a method would run on its defaults, which are another model's."""
    if any(o.key_or_group.startswith("method.layer") for o in overrides):
        return
    for method, model in product(methods, _chosen(overrides, "model") or ["pocket"]):
        if registry.hparams_names(method) and registry.find_hparams(method, model, "")[0] == registry.DEFAULTS:
            print(
                f"note: no settings of {method} for {model} are known; its defaults were made for another model. "
                "Set at least method.layer or method.layers",
                file=sys.stderr,
            )


def _with_model_group(arguments: Sequence[str]) -> list[str]:
    """Write out ``model=pocket-llama``; add to ``model.path=X`` alone the config named like X, or the empty one."""
    given = [written_out(argument) for argument in arguments]
    paths = [a.partition("=")[2].strip("'\"") for a in given if a.startswith("model.path=")]
    if paths and not any(a.startswith("model=") for a in given):
        if paths[0] in SHIPPED_MODELS:
            given = [f"model={paths[0]}" if a.startswith("model.path=") else a for a in given]
        else:
            name = Path(paths[0]).name.lower()
            given.append(f"model={name if name in choices('model') else 'custom'}")
    if "model=pocket-llama" in given:
        given[given.index("model=pocket-llama")] = "model=pocket"
        if not any(a.startswith("model.name=") for a in given):
            given.append("model.name=pocket-llama")
    return given


def _chosen(overrides: Sequence[Any], group: str) -> list[str]:
    return [str(value) for override in overrides if override.key_or_group == group for value in values(override)]


def _keys(plain: Any, prefix: str = "") -> list[str]:
    """Keys of a node's plain values, those inside others too."""
    found: list[str] = []
    for key, value in plain.items():
        found += [f"{prefix}{key}", *(_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else ())]
    return [key for key in found if key not in ("method.hparams", "method.tuning")]


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(OmegaConf.create(node), resolve=False)
