"""The config of a run from the file that it keeps, without Hydra."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from editbench import config, plugins, registry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def of_kept(plain: Mapping[str, Any], cache: Path) -> config.RunConfig:
    """The config behind a run's ``config.yaml``, given as plain values; a ValueError if a value does not fit."""
    parts = {name: dict(plain[name]) for name in ("method", "model", "dataset", "stream", "protocol")}
    name, origin = parts["method"].pop("name"), parts["method"].pop("hparams")
    settings = registry.make_config(name, registry.load_method(name).config_class, parts["method"])
    known = plugins.load(plugins.DATASETS, parts["dataset"]["name"], "dataset").settings
    own = {field.name: parts["dataset"].pop(field.name) for field in fields(known)}
    model = {**parts["model"], "architecture": config.ArchitectureConfig(**parts["model"]["architecture"])}
    protocol = {**parts["protocol"], "ability": config.AbilityConfig(**parts["protocol"]["ability"])}
    protocol["judge"] = config.JudgeConfig(**protocol.get("judge", {}))
    return config.RunConfig(
        method=config.MethodConfig(name, origin, settings),
        model=config.ModelConfig(**model),
        dataset=config.DatasetConfig(**parts["dataset"], settings=known(**own)),
        stream=config.StreamConfig(**parts["stream"]),
        protocol=config.ProtocolConfig(**protocol),
        cache=cache,
    )
