"""What a run ran on: versions, commit, machine."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any


def environment() -> dict[str, Any]:
    """Versions of what decides numbers, the checkout's commit if there is one, and the machine."""
    import torch

    found: dict[str, Any] = {
        name: _version(name) for name in ("editbench", "torch", "transformers", "tokenizers", "safetensors")
    }
    found["python"] = platform.python_version()
    found["commit"] = commit()
    found["platform"] = platform.platform()
    found["cpu"] = f"{_processor()}, {torch.get_num_threads()} threads"
    found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return found


def commit() -> str | None:
    """The commit of the checkout that this package runs from, with "+" if files differ from it; None outside one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=root, capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
