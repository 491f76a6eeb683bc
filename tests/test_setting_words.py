"""Settings in words: docstrings, inherited ones, checks."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from editbench import compose, plugins
from editbench.checks import at_least, one_of
from editbench.config import DatasetConfig, TrackerConfig
from editbench.setting_words import settings_of, words_of


@dataclass
class Base:
    """Base.

    Attributes:
        steps: Adam steps; see :class:`~a.b.Other` and ``c``.
            They are counted. Really.
        mode: Words that a subclass replaces.
    """

    steps: int = 3
    mode: str = "a"

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        one_of(("a", "b"), mode=self.mode)


@dataclass
class Inside:
    """Inside.

    Attributes:
        deep: A bottom.
    """

    deep: bool = False


@dataclass
class Derived(Base):
    """Derived.

    Attributes:
        mode: "a" or "b".

    More text: that is no attribute.
    """

    mode: str = "b"
    bare: list[int] | None = None
    inside: Inside = field(default_factory=Inside)


def test_words_default_type_place_and_allowed_values() -> None:
    steps, mode, bare, deep = settings_of(Derived, "method")
    assert (steps.key, steps.words) == ("method.steps", "Adam steps; see Other and c. They are counted. Really.")
    assert (steps.line, steps.default, steps.allowed) == ("Adam steps; see Other and c", 3, "at least 1")
    assert steps.declared.endswith(".Base") and mode.declared.endswith(".Derived")
    assert (mode.words, mode.default, mode.allowed) == ('"a" or "b".', "b", "one of 'a', 'b'")
    assert (bare.words, bare.type, bare.allowed) == ("", "list[int] | null", "")
    assert (deep.key, deep.words, deep.allowed) == ("method.inside.deep", "A bottom.", "true or false")
    assert "More text" not in words_of(Derived)


SECTIONS = {name: cls for name, cls in compose.SCHEMA.items() if isinstance(cls, type)}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_of_a_section_has_words(section: str) -> None:
    assert [s.key for s in settings_of(SECTIONS[section], section) if not s.words] == []


@pytest.mark.parametrize("group", [plugins.METHODS, plugins.DATASETS, plugins.TRACKERS])
def test_every_setting_of_what_is_registered_has_words(group: str) -> None:
    kind = {plugins.METHODS: "config_class", plugins.DATASETS: "settings", plugins.TRACKERS: "Settings"}[group]
    for name in plugins.entry_points(group):
        registered = plugins.load(group, name, "thing")
        assert [s.key for s in settings_of(getattr(registered, kind), name) if not s.words] == []


def test_fields_that_are_no_settings_are_in_words_too() -> None:
    assert all(words_of(DatasetConfig).values()) and all(words_of(TrackerConfig).values())
