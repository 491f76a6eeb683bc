"""Finds methods, models and datasets by name. Nothing heavy is imported before it is asked for."""

from __future__ import annotations

from dataclasses import fields
from importlib import metadata
from typing import TYPE_CHECKING, Any

from editbench.checks import suggestion, unknown
from editbench.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from editbench.editor import Editor
    from editbench.model.language_model import LanguageModel
    from editbench.resources import Resources


METHOD_GROUP = "editbench.methods"
"""Entry-point group: any installed package can add a method by declaring one there."""


def method_entry_points() -> dict[str, metadata.EntryPoint]:
    """Registered methods by name, sorted.

    Raises:
        ValueError: Two packages register the same name.
    """
    found: dict[str, metadata.EntryPoint] = {}
    for point in metadata.entry_points(group=METHOD_GROUP):
        if point.name in found and found[point.name].value != point.value:
            raise ValueError(
                f"two packages register the method {point.name!r}: {found[point.name].value} and {point.value}; "
                "uninstall one of them"
            )
        found[point.name] = point
    return dict(sorted(found.items()))


def load_method(name: str) -> type[Editor[Any]]:
    """The editor class registered as ``name``.

    Raises:
        ValueError: Unknown name, or the class is not an :class:`~editbench.editor.Editor`.
    """
    from editbench.editor import Editor

    points = method_entry_points()
    if name not in points:
        raise unknown("method", name, points)
    cls = points[name].load()
    if not (isinstance(cls, type) and issubclass(cls, Editor)):
        raise ValueError(f"method {name!r} ({points[name].value}) is not a subclass of editbench.Editor")
    return cls


def make_config(method: str, config_class: type, settings: Mapping[str, Any]) -> Any:
    """An instance of a method's config dataclass from plain values, types checked by OmegaConf.

    Raises:
        ValueError: Unknown setting (with a did-you-mean), or a value of the wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = [f.name for f in fields(config_class)]
    for key in settings:
        if key not in known:
            raise ValueError(
                f"method {method} has no setting {key!r}; {moved(config_class, key) or suggestion(key, known)}"
            )
    try:
        merged = OmegaConf.merge(OmegaConf.structured(config_class), dict(settings))
        return OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ValueError(f"method {method}: {str(error).splitlines()[0]}") from error


def moved(config_class: type, key: str) -> str | None:
    """Where a setting is set now that a method once had: what its config class says in ``MOVED``."""
    known: Mapping[str, str] = getattr(config_class, "MOVED", {})
    return known.get(key)


def make_editor(
    method: str,
    lm: LanguageModel,
    *,
    ledger: Ledger | None = None,
    resources: Resources | None = None,
    **settings: Any,
) -> Editor[Any]:
    """An editor by its registered name, with a ledger of its own unless one is given.

    Args:
        method: Registered name ("rome").
        lm: The model to edit.
        ledger: Where its changes go.
        resources: Context templates, covariance, texts, seed.
        settings: Fields of the method's config.

    Raises:
        ValueError: Unknown method or setting (with a did-you-mean).
    """
    from editbench.registry import load_method, make_config

    cls = load_method(method)
    config = make_config(method, cls.config_class, settings)
    return cls(lm, ledger if ledger is not None else Ledger(lm), config, resources)
