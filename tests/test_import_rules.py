"""Who may import whom, and what no file may do. The imports are read from the source, those for types included."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import editbench

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
TOPS = ("editbench", "methods", "conf")
FILES = sorted(f for top in TOPS for f in (ROOT / top).rglob("*.py") if "__pycache__" not in f.parts)

# A part is a module or package of editbench. Anybody may import these.
ANYBODY = {"checks", "costs", "fetched", "files", "json_lines", "plugins", "progress", "search_space"}
ANYBODY |= {"hub_names", "visible_text", "words"}
# What the public names in `editbench/__init__.py` come from.
PUBLIC = {
    name: at.removeprefix("editbench.").partition(":")[0].partition(".")[0] for name, at in editbench._PUBLIC.items()
}

MAY_IMPORT: dict[str, set[str]] = {
    **{
        name: set()
        for name in (*ANYBODY, "conf", "override_errors", "records", "results", "stopping", "threads", "tracker_config")
    },
    "architecture_config": set(),
    "protocol_parts": set(),
    "model_places": set(),
    "config": {"architecture_config", "protocol_parts", "stopping", "tracker_config"},
    "console": {"conf"},
    "model": {"records", "config", "model_places"},
    "ledger_files": set(),
    "ledger_order": set(),
    "room": {"records", "model"},
    "weight_changes": {"model"},
    "ledger": {"model", "ledger_files", "ledger_order", "weight_changes"},
    "resources": {"records", "config", "model", "datasets", "pocket"},
    "editor": {"records", "datasets", "model", "ledger", "resources", "room"},
    "registry": {"editor", "ledger", "model", "pocket", "resources"},
    "locate_then_edit": {"records", "model", "ledger", "editor", "resources", "room"},
    "memory_based": {"records", "model", "ledger", "editor", "resources"},
    "gradient_based": {"records", "model", "ledger", "editor", "resources", "room", "locate_then_edit"},
    "prompt_edits": {"records", "model", "ledger", "editor", "resources", "room"},
    "pocket": {"records", "model"},
    "datasets": {"records", "config", "pocket"},
    "fetch": {"console", "datasets", "model"},
    "revisions": {"records"},
    "stream": {"records", "config", "revisions"},
    "evaluation": {"records", "config", "protocol_parts", "model", "pocket", "stream", "results"},
    "tracking": {"records", "config", "results"},
    "provenance": {
        "model_places",
        "config",
        "results",
        "records",
        "pocket",
        "model",
        "stream",
        "evaluation",
        "registry",
        "datasets",
    },
    "continuation": {"config", "records", "datasets", "stream", "evaluation", "provenance", "registry", "results"},
    "checkpoint": {"ledger", "editor", "results"},
    "editing_loop": {
        "config",
        "records",
        "stream",
        "model",
        "ledger",
        "editor",
        "evaluation",
        "results",
        "checkpoint",
        "stopping",
        "tracking",
    },
    "jobs": set(),
    "job_hparams": {"registry"},
    "conf_groups": {"conf", "registry"},
    "compose": {
        *("model_places", "config", "registry", "conf", "conf_groups", "job_hparams", "jobs", "override_errors"),
    },
}
# These put the parts together.
MAY_IMPORT["single_run"] = set(MAY_IMPORT)
MAY_IMPORT["foresight"] = set(MAY_IMPORT)
MAY_IMPORT["rates"] = {"results"}
MAY_IMPORT["cache_lookup"] = {*MAY_IMPORT, "single_run"}
MAY_IMPORT["estimate"] = {*MAY_IMPORT}
MAY_IMPORT["plan"] = {*MAY_IMPORT}
MAY_IMPORT["layer_search"] = {*MAY_IMPORT, "single_run"}
MAY_IMPORT["kept_config"] = {"config", "registry"}
MAY_IMPORT["edited_run"] = {*MAY_IMPORT, "single_run"}
MAY_IMPORT["quick_edit"] = {*MAY_IMPORT}
MAY_IMPORT["submission"] = {*MAY_IMPORT, "single_run"}
MAY_IMPORT["tuning"] = set(MAY_IMPORT)
MAY_IMPORT["train"] = set(MAY_IMPORT)
MAY_IMPORT["setting_words"] = set()
MAY_IMPORT["explain"] = {"compose", "conf_groups", "config", "jobs", "registry", "setting_words"}
MAY_IMPORT["titles"] = {"conf", "conf_groups", "evaluation", "registry"}
MAY_IMPORT["launch"] = set(MAY_IMPORT)
MAY_IMPORT["demo"] = MAY_IMPORT["cli"] = {*MAY_IMPORT, "demo"}
METHOD = {
    *("records", "model", "ledger", "editor", "resources", "room"),
    *("locate_then_edit", "gradient_based", "memory_based", "prompt_edits"),
}


def module_name(file: Path) -> str:
    """The name under which ``file`` is imported ("methods/rome/editor.py" is "editbench.methods.rome.editor")."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "editbench" else ("editbench", *parts))


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything imported, relative imports resolved against ``package``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def part_of(name: str) -> str | None:
    """Part of a dotted name: "model", "methods.rome"; None for what is not editbench's."""
    parts = name.split(".")
    if parts[0] != "editbench" or len(parts) == 1 or parts[1].startswith("__"):
        return None
    if parts[1] == "methods":
        return ".".join(parts[1:3])
    return PUBLIC.get(parts[1], parts[1])


def intruders(source: str, module: str, package: str) -> list[str]:
    """Imports in ``source`` that the table does not allow, as "line: name"."""
    own = part_of(module)
    if own is None:  # editbench/__init__.py: hands out public names, wherever they come from
        allowed = set(PUBLIC.values())
    else:
        allowed = METHOD if own.startswith("methods") else MAY_IMPORT[own]
        allowed = allowed | {own}
    found = ((line, name, part_of(name)) for line, name in imports(ast.parse(source), package))
    return [f"{line}: {name}" for line, name, r in found if r is not None and r not in allowed | ANYBODY]


def offences(source: str) -> list[str]:
    """Unsafe or device-bound constructs in ``source``, as "line: what"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for name in [name for _, name in imports(node, "")] if isinstance(node, (ast.Import, ast.ImportFrom)) else []:
            if name.split(".")[0] in {"pickle", "dill", "cloudpickle", "marshal"}:
                found.append((node.lineno, name.split(".")[0]))
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
        if called in {"eval", "exec"} or called.endswith(".cuda"):
            found.append((node.lineno, f"{called}()"))
        if called == "torch.load" and keywords.get("weights_only") is not True:
            found.append((node.lineno, "torch.load() without weights_only=True"))
        found += [(node.lineno, f"{k}=True") for k in ("trust_remote_code", "allow_pickle") if keywords.get(k) is True]
    return [f"{line}: {what}" for line, what in sorted(set(found))]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_rules(file: Path) -> None:
    module, source = module_name(file), file.read_text(encoding="utf-8")
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    own = part_of(module)
    assert own is None or own.startswith("methods") or own in MAY_IMPORT, f"give the part {own!r} a line in the table"
    assert intruders(source, module, package) == []
    assert offences(source) == []
    assert "utils" not in module.split("."), "name a module after its subject"
    if not own or not own.startswith("methods"):
        assert '"editbench.methods.' not in source, "the core finds methods by entry point only"


def test_no_config_trusts_remote_code() -> None:
    for file in (ROOT / "conf").rglob("*.yaml"):
        assert not re.search(r"trust_remote_code\W+true", file.read_text(encoding="utf-8"), re.I), file


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("editbench.methods.rome.editor", "from editbench.methods.memit import MEMIT"),
        ("editbench.methods.rome.editor", "from ..memit import MEMIT"),
        ("editbench.methods.rome.editor", "from editbench import datasets"),
        ("editbench.methods.rome.editor", "import editbench.evaluation.metrics"),
        ("editbench.records", "if TYPE_CHECKING:\n    from editbench.model.language_model import LanguageModel"),
        ("editbench.records", "def f():\n    from editbench import LanguageModel"),
        ("editbench.editing_loop", "from editbench.methods.rome import ROME"),
        ("editbench.cli", "from editbench import methods"),
        ("editbench.evaluation.metrics", "from ..single_run import run"),
    ],
)
def test_the_rules_catch_an_intruder(module: str, line: str) -> None:
    assert len(intruders(line, module, module.rpartition(".")[0])) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("editbench.methods.rome.editor", "from .config import RomeConfig"),
        ("editbench.methods.rome.editor", "from editbench import Editor, LanguageModel, __version__"),
        ("editbench.methods.rome.editor", "import torch, editbench.locate_then_edit.keys"),
        ("editbench.results.run_folder", "from editbench.progress import bar"),
        ("editbench.evaluation.metrics", "from . import batches"),
    ],
)
def test_the_rules_let_others_pass(module: str, line: str) -> None:
    assert intruders(line, module, module.rpartition(".")[0]) == []


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("import pickle", True),
        ("from pickle import loads", True),
        ("torch.load(f)", True),
        ("torch.load(f, weights_only=False)", True),
        ("torch.load(f, weights_only=True)", False),
        ("eval('1')", True),
        ("model.eval()", False),
        ("exec('x = 1')", True),
        ("weight.cuda()", True),
        ("weight.to(other.device)", False),
        ("torch.cuda.is_available()", False),
        ("load(f, trust_remote_code=True)", True),
        ("load(f, trust_remote_code=False)", False),
        ("np.load(f, allow_pickle=True)", True),
    ],
)
def test_offences(line: str, bad: bool) -> None:
    assert bool(offences(line)) == bad
