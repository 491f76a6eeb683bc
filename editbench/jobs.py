"""Jobs of a command: every combination of values, each with the settings that its method, data set and model have.

``rome.layer=5`` is ``method.layer=5`` in jobs with ``method=rome``, and nothing in others. ``method.layer=5`` holds in
all jobs whose method has a ``layer``; jobs that would differ in nothing but a setting that they lack become one.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from editbench.checks import initials, renamed, suggestion

SECTIONS = ("method", "dataset", "model")
"""Groups whose choices have settings, which may be given by the choice's name."""


_SHORT = 4  # letters of a name that is like others by accident
_ALIKE = 0.75  # share of letters by which a name is surely another, misspelt


@dataclass(frozen=True)
class Names:
    """Names that keys may have."""

    sections: Mapping[str, str]  # by choice ("rome"): its section ("method")
    keys_of: Callable[[str, str], Collection[str]]  # keys ("method.layer") of a section's choice
    default: Mapping[str, str]  # by section: its choice where a command names none
    free: Collection[str] = ()  # mappings whose names are the user's ("protocol.data")

    def owner(self, key: str) -> str | None:
        """The choice by whose name a setting is given ("rome" of "rome.layer"); None for other keys."""
        name, dot, _ = key.partition(".")
        return name if dot and name in self.sections else None

    def is_free(self, key: str) -> bool:
        """Whether the key is in a mapping whose names are the user's."""
        return any(key.startswith(f"{mapping}.") for mapping in self.free)

    def shared(self, key: str) -> str:
        """The key of the same setting for all choices ("method.layer" of "rome.layer")."""
        name = self.owner(key)
        return key.replace(name, self.sections[name], 1) if name else key


@dataclass
class Jobs:
    """The jobs of a command, each as overrides for Hydra."""

    jobs: list[list[str]] = field(default_factory=list)
    chosen: set[str] = field(default_factory=set)  # choices of all sections
    has: dict[str, dict[str, bool]] = field(default_factory=lambda: defaultdict(dict))
    """By setting and choice: whether the choice has the setting."""


@dataclass(frozen=True)
class Command:
    """Overrides of a command, checked."""

    jobs: list[list[str]]  # overrides of each job
    hydra: list[str]  # overrides of Hydra's own settings, the same for all jobs
    sweep: bool  # whether an experiment makes it a sweep
    launcher: str
    decimals: Collection[str] = ()  # keys of the overrides whose default is no whole number

    @property
    def only(self) -> list[str]:
        """The overrides of the one job; a ValueError if there are several."""
        if len(self.jobs) > 1:
            pair = next(pair for pair in zip(*self.jobs[:2], strict=False) if pair[0] != pair[1])
            key, values = pair[0].partition("=")[0], [text.partition("=")[2] for text in pair]
            decimal = len(self.jobs) == 2 and key in self.decimals and values[1].isdecimal()
            hint = f"; a decimal number has a point: {key}={'.'.join(values)}" if decimal else ""
            raise ValueError(f"{key} has several values: a sweep over them needs -m{hint}")
        return [*self.jobs[0], *self.hydra]


def check_keys(overrides: Sequence[Any], keys: Collection[str], names: Names) -> None:
    """Refuse unknown keys of Hydra's parsed overrides, except of sections: :func:`expand` knows which job has them."""
    for override in overrides:
        key = override.key_or_group
        elsewhere = override.is_delete() or "@" in key  # Hydra knows what is there
        if not (
            key in keys or elsewhere or names.is_free(key) or key.partition(".")[0] in SECTIONS or names.owner(key)
        ):
            raise ValueError(f"unknown key {key!r}; {nearest(key, keys)}")


def expand(overrides: Sequence[Any], swept: Mapping[str, str], names: Names) -> tuple[list[list[str]], list[str]]:
    """The jobs of Hydra's parsed overrides, and sentences on settings that were left out.

    ``swept`` are values by key that an experiment sweeps over; those that the overrides set do not count. A ValueError
    names a setting that no job has, with the nearest one that a job has.
    """
    given = {o.key_or_group for o in overrides}
    kept = [f"{key}={value}" for key, value in swept.items() if not {key, names.shared(key)} & given]
    overrides = [*OverridesParser.create().parse_overrides(kept), *overrides]
    own = [o for o in overrides if names.owner(o.key_or_group)]
    found = Jobs()
    for texts in _combinations([o for o in overrides if o not in own]):
        values = {_key(text): text.partition("=")[2] for text in texts}
        chosen = {section: values.get(section, names.default[section]) for section in SECTIONS}
        found.chosen.update(chosen.values())
        mine = [_renamed(o, names) for o in own if names.owner(o.key_or_group) in chosen.values()]
        replaced = {o.key_or_group for o in mine}
        every = [*(t for t in texts if _key(t) not in replaced), *(f"{o.get_key_element()}=" for o in mine)]
        lacking = {text for text in every if not _fits(text, chosen, names, found.has)}
        kept = [text for text in texts if _key(text) not in replaced and text not in lacking]
        found.jobs += [[*kept, *more] for more in _combinations(mine)]
    _refuse_unknown(found.has, names)
    named = {o.key_or_group: names.owner(o.key_or_group) or "" for o in own}
    unused = {key: owner for key, owner in named.items() if owner not in found.chosen}
    for key, owner in unused.items():
        shared = names.shared(key)
        fits = names.is_free(shared) or shared in names.keys_of(names.sections[owner], owner)
        _refuse_unknown({shared: {owner: fits}}, names)
    jobs = list(map(list, dict.fromkeys(map(tuple, found.jobs))))
    return jobs, [
        *_left_out(found.has),
        *(f"no job has {unused[key]}: {key} is not used" for key in sorted(unused)),
    ]


def nearest(key: str, keys: Collection[str]) -> str:
    """A sentence for an unknown key: the nearest one of its section, else of others, else all of its section."""
    key = key.casefold()  # no key here has capitals
    section, _, last = key.rpartition(".")
    keys = [k for k in keys if not k.startswith("hydra")]
    inside = {k.rpartition(".")[2]: k for k in keys if k.rpartition(".")[0] == section} if section else {}
    new = renamed(key, "key")
    if new and " " in new:
        return new
    # A method may lack what the key is called in others; what is like the key by its letters is then something else.
    lacking = new is not None and new.startswith(f"{section}.") and new not in keys
    found = [] if lacking else [new] if new else _near(key, last, keys, inside)
    if found:
        return f"did you mean {found[0]!r}?"
    return suggestion("", list(inside.values()) or [k for k in keys if "." not in k])


def _near(key: str, last: str, keys: Sequence[str], inside: Mapping[str, str]) -> list[str]:
    """Keys that may be meant, those of the same section (``inside``) first."""
    found = (_ending(key, keys) if "." in key else []) or _like(last, inside)
    if found or key.count(".") > 1:
        return found
    others = {k.rpartition(".")[2]: k for k in reversed(keys) if k.count(".") == 1}
    if last in others or inside:
        return [others[last]] if last in others else []
    sections = difflib.get_close_matches(key, [k for k in keys if "." not in k], n=1, cutoff=_ALIKE)
    return sections or _ending(key, keys) or _like(last, others)


def _ending(key: str, keys: Collection[str]) -> list[str]:
    """Keys that end like one of several words: "protocol.judge.model" of "judge.model" and "protocol.judge_model"."""
    end = f"_{key.replace('.', '_')}"
    return [k for k in keys if "_" in end[1:] and f"_{k.replace('.', '_')}".endswith(end)]


def _like(name: str, keys: Mapping[str, str]) -> list[str]:
    """Keys by their last part that are like a name, the likest first: by initials, by letters, by a common word."""
    words = {*name.split("_")}
    akin = [one for one in keys if words & {*one.split("_")} or name.startswith(one) or one.startswith(name)]
    near = partial(difflib.get_close_matches, name, n=1)
    short = [one for one in keys if initials(one) == name]
    found = [*short, *near(keys, cutoff=_ALIKE), *near(akin, cutoff=0.0), *(near(keys) if len(name) > _SHORT else ())]
    return [keys[one] for one in found]


def _combinations(overrides: Sequence[Any]) -> list[list[str]]:
    jobs: list[list[str]] = BasicSweeper.split_arguments(list(overrides), None)[0]
    return jobs


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+~")


def _renamed(override: Any, names: Names) -> Any:
    """``rome.layer=5`` as ``method.layer=5``."""
    key = override.key_or_group
    line = str(override.input_line).replace(key, names.shared(key), 1)
    return OverridesParser.create().parse_override(line)


def _fits(text: str, chosen: Mapping[str, str], names: Names, has: dict[str, dict[str, bool]]) -> bool:
    """Whether a job with these choices has this setting; noted in ``has`` for settings of a section."""
    key = _key(text)
    section, dot, _ = key.partition(".")
    if not dot or section not in SECTIONS or text[0] == "~" or names.is_free(key):
        return True
    return has[key].setdefault(chosen[section], key in names.keys_of(section, chosen[section]))


def _refuse_unknown(has: Mapping[str, Mapping[str, bool]], names: Names) -> None:
    for key, by_choice in has.items():
        if not any(by_choice.values()):
            section = key.partition(".")[0]
            known = dict.fromkeys(k for choice in by_choice for k in names.keys_of(section, choice))
            of = f" of {section} {', '.join(by_choice)}" if len(by_choice) > 1 else ""
            raise ValueError(f"unknown key {key!r}{of}; {nearest(key, list(known))}")


def _left_out(has: Mapping[str, Mapping[str, bool]]) -> list[str]:
    lacking: dict[str, list[str]] = defaultdict(list)
    for key, by_choice in has.items():
        for choice in (choice for choice, fits in by_choice.items() if not fits):
            lacking[choice].append(key)
    return [
        f"{choice} has no {', '.join(keys)}: left out, and its jobs that are alike are one"
        for choice, keys in lacking.items()
    ]
