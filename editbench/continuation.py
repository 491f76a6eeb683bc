"""Going on with a stream: a run of more edits takes over what a finished run of fewer edits has made.

The longer stream must begin with the shorter one, and all other settings must be equal. The new folder is then that of
a run that was stopped after the shared edits: it resumes as any other, with the results of a run from the start.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from editbench import datasets, provenance, registry
from editbench.config import ResultsConfig, RunConfig
from editbench.evaluation.metrics import get_metric
from editbench.files import ResultsError
from editbench.json_lines import read_lines
from editbench.records import RecordSet
from editbench.results.continuation import can_be_cut, continue_run
from editbench.results.identity import differences, listed
from editbench.results.run_folder import is_run, read_info, read_run
from editbench.results.schema import CONFIG_FILE, EDITS_FILE
from editbench.stream import Stream

_log = logging.getLogger(__name__)
NEVER = "never"
"""Value of ``results.continue_from`` for a run from the start."""
_LENGTH = ("stream.edits", "stream.evaluate_at", "dataset.limit")  # settings in which the two runs may differ
_LIBRARIES = ("editbench", "torch", "transformers", "tokenizers", "gpu")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class CannotContinue(ValueError):
    """The run cannot be taken over; the message says why."""


def runs_to_continue(results: ResultsConfig, own: Path, text: str) -> list[Path]:
    """The run that ``results.continue_from`` names, or the finished runs beside ``own`` that differ in length alone.

    The longest comes first. ``text`` is the config as it is kept.
    """
    if results.continue_from is not None and results.continue_from != NEVER:
        return [_named(results.continue_from, results.dir)]
    if results.continue_from == NEVER or results.rerun or not own.parent.is_dir():
        return []
    beside = [path for path in sorted(own.parent.iterdir()) if path.name != own.name and is_run(path)]
    found = {path: _edits_of(path) for path in beside if not _differences(path, text)}
    return sorted((path for path, edits in found.items() if edits), key=lambda path: -found[path])


def take_over(found: Sequence[Path], config: RunConfig, text: str, records: RecordSet, stream: Stream) -> bool:
    """Make the folder of the config's run from the first of these runs that can be continued; whether it was made.

    A ValueError if ``results.continue_from`` names one that cannot be; a run that was only found is left, with a line
    in the log.
    """
    refused, only_found = [], config.results.continue_from is None
    for folder in found:
        if only_found and read_info(folder)["provenance"]["stream"]["edits"] >= len(stream):
            continue
        try:
            _check_empty(config.folder)
            batches = _shared_batches(folder, config, text, records, stream)
            facts = {**read_info(folder)["provenance"], **provenance.of_config(config, records, stream)}
            continue_run(folder, config.folder, batches, text, facts, batches * stream.batch_size)
        except CannotContinue as error:
            refused.append(f"{folder.name} is not continued: {error}")
        else:
            _log.info("%s goes on from %s", config.folder.name, folder.name)
            return True
    if refused and not only_found:
        raise ValueError(f"results.continue_from: {refused[0]}; name another run, or results.continue_from={NEVER}")
    if refused:
        _log.info("a run from the start: %s", refused[0])
    return False


def _check_empty(folder: Path) -> None:
    if found := sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []:
        raise CannotContinue(f"{folder} holds files already ({', '.join(found[:3])}); move them away")


def _named(name: str, root: str) -> Path:
    for folder in (Path(name).expanduser(), Path(root, name)):
        if is_run(folder):
            return folder
    raise ValueError(f"results.continue_from: {name} is no run folder, and no run in {root} has that name")


def _edits_of(folder: Path) -> int:
    try:
        info = read_run(folder)
    except ResultsError as error:
        _log.info("%s is not continued: %s", folder.name, error)
        return 0
    return int(info["provenance"]["stream"]["edits"]) if info["status"] == "done" else 0


def _differences(folder: Path, text: str) -> list[str]:
    """Differences of a run's settings from a config's text, lengths aside."""
    both = (_settings(folder / CONFIG_FILE), _flat(yaml.load(text, _Loader)))
    first, second = ({name: value for name, value in one.items() if name not in _LENGTH} for one in both)
    return differences(first, second)


def _settings(file: Path) -> dict[str, Any]:
    try:
        return _flat(yaml.load(file.read_text(encoding="utf-8"), _Loader))
    except (OSError, ValueError, yaml.YAMLError):
        return {}


def _flat(tree: Any) -> dict[str, Any]:
    def walk(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in tree.items():
            if isinstance(value, dict) and value:
                yield from walk(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value

    return dict(walk(tree, "")) if isinstance(tree, dict) else {}


def _shared_batches(folder: Path, config: RunConfig, text: str, records: RecordSet, stream: Stream) -> int:
    """Number of the shorter run's batches that the longer one would make and score in the same way."""
    info = read_run(folder)
    if info["status"] != "done":
        raise CannotContinue(f"it is {info['status']}")
    if different := _differences(folder, text):
        raise CannotContinue(f"its settings are others: {listed(different)}")
    own = _settings(folder / CONFIG_FILE)
    lengths = {name: own[f"stream.{name}"] for name in ("edits", "evaluate_at")}
    shorter = replace(config, stream=replace(config.stream, **lengths))
    if own["dataset.limit"] != config.dataset.limit:
        shorter = replace(shorter, dataset=replace(config.dataset, limit=own["dataset.limit"]))
    read = records if shorter.dataset == config.dataset else datasets.from_config(shorter.dataset, records.chat_format)
    begun = Stream.build(read, shorter.stream)
    _check_unchanged(info["provenance"], provenance.of_config(shorter, read, begun))
    batches = _settled(folder, config, stream.batch_size)
    _check_stream(stream, begun, batches)
    needs = {get_metric(name).needs for name in config.protocol.metrics}
    if "free_text" in needs and [r.free_text for r in read.records] != [r.free_text for r in records.records]:
        raise CannotContinue("the document frequencies of free texts are those of all records read, and it read fewer")
    return batches


def _check_unchanged(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if why := provenance.changed(before, now):
        raise CannotContinue(why)
    here = provenance.environment()
    if different := differences(*({name: one.get(name) for name in _LIBRARIES} for one in (before, here))):
        raise CannotContinue(f"it was made with other libraries: {listed(different)}")


def _settled(folder: Path, config: RunConfig, batch_size: int) -> int:
    """Number of its first batches that have the same bits whatever follows."""
    method, alone = registry.load_method(config.method.name), config.stream.mode == "single"
    count, batches = 0, 0
    rows = read_lines(folder / EDITS_FILE)[0]
    for row in rows:
        count += len(row["ids"]) - len(row["skipped"])
        if len(row["ids"]) == batch_size and (alone or method.settled_after(config.method.settings, count)):
            batches = row["batch"] + 1
    if batches < len(rows) and not can_be_cut(folder):
        at = f"after {batches * batch_size} of its edits"
        raise CannotContinue(f"its last batch would be another in a longer run, and {at} no state was saved")
    return int(batches)


def _check_stream(stream: Stream, begun: Stream, batches: int) -> None:
    """Refuse a stream that does not begin with these batches of the shorter one, or is scored at other places there."""
    edits = batches * stream.batch_size
    if not 0 < edits < len(stream):
        raise CannotContinue(f"{edits} of its edits can be taken over by a run of {len(stream)}")
    if stream.records[:edits] != begun.records[:edits]:
        raise CannotContinue(
            f"the stream of {len(stream)} edits does not begin with its {edits}; streams with stream.sample=random "
            "and stream.order=shuffled do, and those with stream.sample=first and stream.order=file"
        )
    wanted, scored = ({p.batch: p.edits for p in one.evaluation_points if p.batch < batches} for one in (stream, begun))
    missing = [edits for batch, edits in wanted.items() if batch not in scored and batch != batches - 1]
    for odd, what in ((missing, "not"), ([edits for batch, edits in scored.items() if batch not in wanted], "also")):
        if odd:
            raise CannotContinue(f"it was {what} scored after {odd[0]} edits (stream.evaluate_at)")
