"""Search spaces of a method's settings, declared in the metadata of their fields: ``metadata={"search": Range(…)}``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

SEARCH = "search"  # key in a field's metadata
DIGITS = 3  # significant digits of a number that is tried


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included: whole ones if ``low`` is whole; ``log`` for equal ratios."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Any, name: str, n_layers: int) -> float:
        """The value that an optuna trial tries."""
        if isinstance(self.low, int):
            return int(trial.suggest_int(name, self.low, self.high, log=self.log))
        value = float(f"{trial.suggest_float(name, self.low, self.high, log=self.log):.{DIGITS}g}")
        return min(max(value, self.low), self.high)

    def start(self, default: Any, n_layers: int) -> Any:
        """The value of an untuned model."""
        return default


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def suggest(self, trial: Any, name: str, n_layers: int) -> Any:
        """As in :class:`Range`."""
        return trial.suggest_categorical(name, self.values)

    def start(self, default: Any, n_layers: int) -> Any:
        """As in :class:`Range`."""
        return default


@dataclass(frozen=True)
class Layer:
    """Any layer of the model. ``of`` is the number of layers of the model to which the field's default belongs."""

    of: int

    def suggest(self, trial: Any, name: str, n_layers: int) -> int:
        """As in :class:`Range`."""
        return int(trial.suggest_int(name, 0, n_layers - 1))

    def start(self, default: int, n_layers: int) -> int:
        """The layer at the same share of the depth."""
        return min(round(default * n_layers / self.of), n_layers - 1)


@dataclass(frozen=True)
class Layers:
    """Adjacent layers of the model, from ``least`` to ``most`` of them if it has so many; ``of`` as in Layer."""

    of: int
    least: int = 4
    most: int = 6

    def suggest(self, trial: Any, name: str, n_layers: int) -> list[int]:
        """As in :class:`Range`."""
        least, most = min(self.least, n_layers), min(self.most, n_layers)
        first = int(trial.suggest_int(f"{name}.first", 0, n_layers - least))
        count = int(trial.suggest_int(f"{name}.count", least, most))
        return list(range(first, min(first + count, n_layers)))

    def start(self, default: list[int], n_layers: int) -> list[int]:
        """As many layers, from the same share of the depth on."""
        count = min(len(default), n_layers)
        first = min(round(default[0] * n_layers / self.of), n_layers - count)
        return list(range(first, first + count))


Space = Range | Choice | Layer | Layers


def space_of(config_class: type) -> dict[str, Space]:
    """The search spaces of a method's config, by field."""
    return {field.name: field.metadata[SEARCH] for field in fields(config_class) if SEARCH in field.metadata}
