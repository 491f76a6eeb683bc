"""The documentation's pictures: all come from `make docs-pictures`, and from rows that are in the repository."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def test_every_picture_is_written_by_a_script_that_make_runs():
    (recipe,) = re.findall(r"^docs-pictures:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    scripts = [(ROOT / name).read_text(encoding="utf-8") for name in re.findall(r"docs/\w+\.py", recipe)]
    pictures = [file.name for file in DOCS.rglob("*") if file.suffix in (".svg", ".png")]
    assert len(pictures) == 10
    assert not [name for name in pictures if not any(f'"{name}"' in script for script in scripts)]
