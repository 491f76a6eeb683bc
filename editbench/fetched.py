"""Places of what `editbench fetch` has put on this machine, and the facts that stand beside each thing.

All is in the cache folder: ``fetched/<name>/`` holds a model or a data set, and ``source.json`` with its source.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from editbench.files import file_digests

FETCHED = "fetched"
"""Dataset path that stands for the fetched file."""
MODELS = ("smollm2-135m",)
DATASETS = {
    "counterfact": "counterfact.json",
    "zsre": "zsre_mend_eval.json",
    "hallucination": "evaluation.parquet",
}
"""By data set: name of its fetched file."""
SOURCE_FILE = "source.json"
FILES = "files"  # key of the facts: SHA-256 by file


class NotFetchedError(FileNotFoundError):
    """Nothing was fetched under this name; the message has the command."""


def cache_folder() -> Path:
    """``EDITBENCH_CACHE``, or else "editbench" in the user's cache folder of this platform (~/.cache on Linux)."""
    if given := os.environ.get("EDITBENCH_CACHE"):
        return Path(given).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("editbench", appauthor=False)


def usable_cache(folder: Path) -> Path:
    """The folder of a cache, its "~" expanded; a ValueError if a file is in its way or it is read-only."""
    folder = folder.expanduser()
    place = next(place for place in (folder, *folder.absolute().parents) if os.path.exists(place))
    if not os.path.isdir(place):
        reason = "is no folder"
    elif not os.access(place, os.W_OK | os.X_OK):
        reason = "cannot be written to"
    else:
        return folder
    raise ValueError(f"the cache cannot be {folder}: {place} {reason}; give one with EDITBENCH_CACHE or cache=DIR")


def fetched_folder(name: str) -> Path:
    """Folder of a fetched model or data set, whether it is there or not."""
    return cache_folder() / FETCHED / name


def find_model(name: str) -> Path:
    """Folder of a fetched model."""
    return _found(name, fetched_folder(name) / SOURCE_FILE).parent


def find_dataset(name: str) -> Path:
    """File of a fetched data set."""
    if name not in DATASETS:
        known = ", ".join(DATASETS)
        raise ValueError(f"dataset.path={FETCHED}: {name} cannot be fetched ({known} can); give dataset.path=FILE")
    return _found(name, fetched_folder(name) / SOURCE_FILE).with_name(DATASETS[name])


def read_source(folder: Path) -> dict[str, Any]:
    """Facts beside a fetched thing: source, licence, precision, SHA-256, …; empty for any other folder."""
    try:
        found = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise ValueError(f"{folder / SOURCE_FILE} is damaged ({error}); fetch it again") from error
    return found if isinstance(found, dict) else {}


def _found(name: str, file: Path) -> Path:
    if not file.is_file():
        raise NotFetchedError(f"{name} is not on this machine yet: editbench fetch {name}")
    known = read_source(file.parent).get(FILES) or {}  # none beside things that an earlier version fetched
    found = file_digests(file.parent, cache_folder()) if known else {}
    if damaged := sorted(one for one, digest in known.items() if found.get(one) != digest):
        raise ValueError(f"{file.parent / damaged[0]} is damaged: editbench fetch {name} --again")
    return file
