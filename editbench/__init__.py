"""editbench: one benchmark for knowledge-editing methods.

The public names are imported on first use, so that ``import editbench`` and ``editbench --help`` stay fast.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from editbench.datasets import load as load_records
    from editbench.editor import Editor, EditResult
    from editbench.ledger import Ledger
    from editbench.model.language_model import LanguageModel, load_model
    from editbench.records import EditRecord, EditRequest, Passage, Probe, RecordSet
    from editbench.registry import make_editor
    from editbench.resources import Resources

__version__ = "0.2.0.dev0"

# In a checkout, `methods/` and `conf/` stand beside this package; installed, they are inside it. With the repository
# root on the package path, `editbench.methods` is found in both cases.
_root = Path(__file__).resolve().parent.parent
if (_root / "methods").is_dir() and (_root / "conf").is_dir() and str(_root) not in __path__:
    __path__.append(str(_root))

_PUBLIC = {
    "EditResult": "editbench.editor",
    "EditRecord": "editbench.records",
    "EditRequest": "editbench.records",
    "Editor": "editbench.editor",
    "LanguageModel": "editbench.model.language_model",
    "Ledger": "editbench.ledger",
    "Resources": "editbench.resources",
    "Passage": "editbench.records",
    "Probe": "editbench.records",
    "RecordSet": "editbench.records",
    "load_model": "editbench.model.language_model",
    "load_records": "editbench.datasets:load",
    "make_editor": "editbench.registry",
}
__all__ = [
    "EditResult",
    "EditRecord",
    "EditRequest",
    "Editor",
    "LanguageModel",
    "Ledger",
    "Resources",
    "Passage",
    "Probe",
    "RecordSet",
    "__version__",
    "load_model",
    "load_records",
    "make_editor",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        module, _, attribute = _PUBLIC[name].partition(":")
        return getattr(importlib.import_module(module), attribute or name)
    raise AttributeError(f"module 'editbench' has no attribute {name!r}")
