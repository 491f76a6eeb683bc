"""editbench: one benchmark for knowledge-editing methods.

The public names are imported on first use, so that ``import editbench`` and ``editbench --help`` stay fast.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.records import EditRecord, EditRequest, Passage, Probe, RecordSet

if TYPE_CHECKING:
    from editbench.datasets import load as load_records
    from editbench.edited_run.opened import open_run
    from editbench.editor import Editor, EditResult
    from editbench.ledger import Ledger
    from editbench.model.language_model import LanguageModel, load_model
    from editbench.registry import make_editor
    from editbench.resources import Resources
    from editbench.results.compare import compare_runs as compare
    from editbench.results.leaderboard import collect as leaderboard
    from editbench.results.report import write_report as report
    from editbench.single_run import run
    from editbench.submission.verify import verify

__version__ = "0.2.0.dev0"

# In a checkout, `methods/` and `conf/` are beside this package; installed, they are inside it. With the repository
# root on the package path, `editbench.methods` is found in both cases.
_root = Path(__file__).resolve().parent.parent
if (_root / "methods").is_dir() and (_root / "conf").is_dir() and str(_root) not in __path__:
    __path__.append(str(_root))

_PUBLIC = {
    "EditRecord": "editbench.records",
    "EditRequest": "editbench.records",
    "EditResult": "editbench.editor",
    "Editor": "editbench.editor",
    "LanguageModel": "editbench.model.language_model",
    "Ledger": "editbench.ledger",
    "Passage": "editbench.records",
    "Probe": "editbench.records",
    "RecordSet": "editbench.records",
    "Resources": "editbench.resources",
    "compare": "editbench.results.compare:compare_runs",
    "leaderboard": "editbench.results.leaderboard:collect",
    "load_model": "editbench.model.language_model",
    "load_records": "editbench.datasets:load",
    "make_editor": "editbench.registry",
    "open_run": "editbench.edited_run.opened",
    "report": "editbench.results.report:write_report",
    "run": "editbench.single_run",
    "verify": "editbench.submission.verify",
}
"""By public name: its module, and its name there if it has another."""
__all__ = [
    "EditRecord",
    "EditRequest",
    "EditResult",
    "Editor",
    "LanguageModel",
    "Ledger",
    "Passage",
    "Probe",
    "RecordSet",
    "Resources",
    "__version__",
    "compare",
    "leaderboard",
    "load_model",
    "load_records",
    "make_editor",
    "open_run",
    "report",
    "run",
    "verify",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        module, _, attribute = _PUBLIC[name].partition(":")
        return getattr(importlib.import_module(module), attribute or name)
    raise AttributeError(f"module 'editbench' has no attribute {name!r}")
