"""Did-you-mean: one wording for every unknown name."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """A sentence that helps with an unknown name: the nearest known one, or all of them when none is near."""
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(options) or 'none'}"


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is not registered ("unknown method 'romee'; did you mean 'rome'?")."""
    return ValueError(f"unknown {kind} {name!r}; {suggestion(name, known)}")
