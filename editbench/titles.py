"""``editbench list KIND``: what a name stands for, in a title."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import editbench.conf
from editbench import conf_groups, plugins, registry
from editbench.json_lines import encode

if TYPE_CHECKING:
    import argparse

_COMMENT = re.compile(r"\A(?:# @package .*\n)?((?:#.*\n)+)")
_SENTENCE = re.compile(r"(?<!al)\.(?: |$)")
OWN_MODEL = "settings of methods are known; give its place by model.path="


def show(options: argparse.Namespace) -> int:
    """Print the names of a kind with their facts."""
    found = listed(options.kind)
    rows = [[_cell(name, fact) for name, fact in facts.items()] for facts in found]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for facts, row in zip(found, rows, strict=True):
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print(encode(facts) if options.json else line.rstrip())
    return 0


def listed(kind: str) -> list[dict[str, Any]]:
    """Facts of each thing of this kind ("methods", "protocols"), its name first."""
    if kind == "methods":
        return [registry.method_facts(name) for name in plugins.entry_points(plugins.METHODS)]
    if kind == "metrics":
        from editbench.evaluation.metrics import list_metrics

        return [
            {
                "name": metric.name,
                "version": f"v{metric.version}",
                "title": metric.facts["title"],
                "description": metric.description.splitlines()[0],
            }
            for metric in list_metrics()
        ]
    group = kind.removesuffix("s")
    return [{"name": name, "title": title_of(group, name)} for name in conf_groups.choices(group)]


def title_of(group: str, name: str) -> str:
    """First sentence of the comment that heads the YAML file of a choice, or of the docstring of what registers it."""
    for folder in editbench.conf.__path__:
        if (file := Path(folder, group, f"{name}.yaml")).is_file():
            return title_in(file)
    registered = {"dataset": plugins.DATASETS, "tracker": plugins.TRACKERS}
    if group not in registered:
        return OWN_MODEL
    plugins.load(registered[group], name, group)
    module = sys.modules[plugins.entry_points(registered[group])[name].module]
    return _first(module.__doc__ or "")


def title_in(file: Path) -> str:
    """First sentence of the comment that heads a YAML file; empty without one."""
    comment = _COMMENT.match(file.read_text(encoding="utf-8"))
    return _first(" ".join(line.lstrip("# ") for line in comment[1].splitlines())) if comment else ""


def _first(text: str) -> str:
    return _SENTENCE.split(text.strip())[0]


def _cell(name: str, fact: Any) -> str:
    if name == "max_batch":
        return "any batch" if fact is None else f"at most {fact} at once"
    return f"needs {', '.join(fact) or 'nothing'}" if name == "needs" else str(fact)
