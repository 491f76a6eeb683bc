"""``hparams=NAME`` in a sweep, some of whose methods have no settings of that name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from editbench import registry


def without_unknown_hparams(jobs: Sequence[list[str]], default: Mapping[str, str]) -> tuple[list[list[str]], list[str]]:
    """Jobs without ``hparams=NAME`` where their method has no such settings, and sentences that say so.

    They stay where no job's method has them: the run itself refuses them. ``default`` are the choices of method, model
    and data set that a command makes by naming none.
    """
    kept: list[list[str]] = []
    lacking: dict[tuple[str, str], str] = {}
    for job in jobs:
        chosen = {**default, **{key: value for key, _, value in (text.partition("=") for text in job)}}
        method, wanted = chosen["method"], chosen.get("hparams", "null")
        origin = registry.find_hparams(method, chosen["model"], chosen["dataset"], wanted)[0]
        if wanted != "null" and origin != wanted:
            known = ", ".join(registry.hparams_names(method)) or "none"
            lacking[method, wanted] = (
                f"{method} has no settings {wanted!r} for {chosen['model']} (known: {known}): hparams is left out, and "
                "its jobs that are alike are one"
            )
            job = [text for text in job if text.partition("=")[0] != "hparams"]
        kept.append(job)
    if not lacking or not any(text.startswith("hparams=") for job in kept for text in job):
        return list(jobs), []
    return list(map(list, dict.fromkeys(map(tuple, kept)))), list(lacking.values())
