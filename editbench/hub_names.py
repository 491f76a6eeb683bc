"""Hub ids, web addresses and paths, known for what they are where another name is wanted."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

_ADDRESS = re.compile(r"(?:https?|hf):/+(?:(?:www\.)?(?:huggingface\.co|hf\.co)/)?", re.IGNORECASE)
_PAGE = re.compile(r"/(?:tree|blob|resolve|raw|viewer)/.*|[?#].*|/+$")
FILES = (".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet")


def hub_id(text: str) -> str | None:
    """The hub id in an address of the hub or in "owner/name"; None of anything else."""
    address = _ADDRESS.match(text)
    if address is not None and "hf" not in address.group().lower() and "huggingface" not in address.group().lower():
        return None
    name = _PAGE.sub("", text[address.end() :] if address else text).removeprefix("datasets/")
    known = re.fullmatch(r"[\w-]+/[\w.-]+", name) or (address and re.fullmatch(r"[\w.-]+", name))
    return name if known and not name.lower().endswith(FILES) else None


def is_address(text: str) -> bool:
    """Whether a text is a web address, or was one before it became a path."""
    return _ADDRESS.match(text) is not None


def place_hint(group: str, choice: str, known: Collection[str]) -> str | None:
    """What to write where a path, a hub id or an address was given as the name of a model or data set."""
    if group not in ("model", "dataset") or choice in known:
        return None
    name = hub_id(choice)
    is_path = Path(choice).expanduser().exists() or choice.lower().endswith((*FILES, ".gguf"))
    if name is None and is_address(choice):
        return f"a web address is not read: download it, and give {group}.path=PATH"
    if name is None and not is_path:
        return None
    if group == "model":
        return f"a model of the hub or of your own is given by model.path={choice if is_path else name}"
    place = choice if is_path else f"hub:{name}"
    named = [one for one in known if name and one in name.lower().replace("-", "").replace("_", "")]
    return f"records of your own are given by dataset={named[0] if named else 'custom'} dataset.path={place}"
