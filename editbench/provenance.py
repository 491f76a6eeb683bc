"""What a run ran on: versions, commit, machine."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import asdict, fields
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from editbench import pocket, registry
from editbench.digests import file_digests

from editbench.results.identity import Parts, part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from editbench.evaluation.general_ability.base import AbilityTest
    from editbench.model.language_model import LanguageModel
    from editbench.records import RecordSet
    from editbench.stream import Stream


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


FORMULAS = {
    "drift": "editbench.evaluation.drift",
    "interval": "editbench.results.intervals",
    "likelihood": "editbench.model.likelihood",
    "perplexity": "editbench.evaluation.perplexity",
    "questions": "editbench.evaluation.questions",
}
"""By name: the module whose ``VERSION`` changes with the numbers that it gives."""

OF_GENERATING = {
    "generation": "editbench.model.generation",
    "answer_matching": "editbench.evaluation.answer_matching",
}
"""Likewise, where a metric looks at generated text."""

OF_LM_EVAL = {"lm_eval": "editbench.evaluation.general_ability.lm_eval"}
"""Likewise, where there are tasks of lm-eval."""

OF_METHODS = {
    "stages": "editbench.locate_then_edit.covariance",
    "prompts": "editbench.locate_then_edit.prompts",
    "sampled_texts": "editbench.resources",
    "multi_layer": "editbench.locate_then_edit.multi_layer",
    "templates": "editbench.locate_then_edit.templates",
    "values": "editbench.locate_then_edit.value_cache",
}
"""Likewise, of what methods share: a method's own is :attr:`editbench.editor.Editor.version`."""

HUB = "hub:"

_NO_SCORE = ("name", "stages", "tokens_per_batch", "headline", "final_first", "metrics", "data", "ability")
"""Of a protocol: what changes no score, and what other parts say (metrics by their versions, data by their hash)."""

_WRITTEN = "written"


def versions(protocol: Any, method: str) -> dict[str, int]:
    """The version of every formula that a run's numbers come from, by name; the method's own as "method"."""
    from editbench.evaluation.general_ability.base import POCKET
    from editbench.evaluation.metrics import get_metric

    chosen = [get_metric(name) for name in protocol.metrics]
    modules = {**FORMULAS, **OF_METHODS}
    if any(metric.generates or metric.on == "free_text" for metric in chosen):
        modules |= OF_GENERATING
    if set(protocol.ability.tasks) - {POCKET}:
        modules |= OF_LM_EVAL
    found = {name: int(import_module(module).VERSION) for name, module in modules.items()}
    found["method"] = registry.load_method(method).version
    return dict(sorted({**found, **{metric.name: metric.version for metric in chosen}}.items()))


def inputs(config: Any, method: Any) -> dict[str, str]:
    """SHA-256 of every file that the configuration names by path, as "model.path/config.json"; but for the dataset's.

    What comes from the hub stands for itself by its commit, once it is in the hub's cache.

    Args:
        config: Of the run.
        method: The method's settings, an instance of its dataclass.

    Raises:
        OSError: A file cannot be read.
    """
    found: dict[str, str] = {}
    for name, path, revision in _paths(config, method):
        cache = Path(config.cache)
        place = pocket.model_path(path) if path in pocket.MODELS else Path(path).expanduser()
        for file, digest in file_digests(place, cache).items():
            found[f"{name}/{file}" if file else name] = digest
        if not place.exists() and (commit := _commit(path, revision)):
            found[f"{name}@commit"] = commit
    return found


def parts(
    config: Any,
    method: tuple[str, Any],
    lm: LanguageModel,
    records: RecordSet,
    stream: Stream,
    ability: Iterable[AbilityTest],
    inputs: Mapping[str, str],
) -> Parts:
    """Everything that decides a run's numbers, but for the seed.

    Args:
        config: Of the run.
        method: The method's name and settings.
        lm: The unedited model.
        records: Posed, with their texts.
        stream: What is edited.
        ability: Tests of general ability, loaded.
        inputs: What :func:`inputs` says.
    """
    protocol = config.protocol
    return {
        "method": method[0],
        **_method_parts(method[1], inputs),
        **_model_parts(config.model, lm, inputs),
        "dataset.hash": records.fingerprint,
        "stream.edits": len(stream),
        "stream.batch_size": stream.batch_size,
        "stream.sample": config.stream.sample,
        "stream.order": config.stream.order,
        **_protocol_parts(protocol, records.name),
        **_ability_parts(protocol.ability, ability, inputs),
        **{_of_version(name): number for name, number in versions(protocol, method[0]).items()},
        **{name: metadata.version(name) for name in ("editbench", "torch", "transformers")},
    }


def _paths(config: Any, method: Any) -> list[tuple[str, str, str | None]]:
    """Name of the setting, what it names, and the revision of it."""
    model = config.model
    found = [("model.path", model.path, model.revision), ("model.covariance", model.covariance, None)]
    if model.texts not in ("self", "pocket") and not str(model.texts).startswith(HUB):
        found.append(("model.texts", model.texts, None))
    found.append(("protocol.ability.include_path", config.protocol.ability.include_path, None))
    found += [
        (f"method.{one.name}", getattr(method, one.name), None) for one in fields(method) if "path" in one.metadata
    ]
    written = {f"method.{one.name}" for one in fields(method) if one.metadata.get("path") == _WRITTEN}
    return [(name, str(path), revision) for name, path, revision in found if path is not None and name not in written]


def _commit(name: str, revision: str | None) -> str | None:
    """The commit of a model of the hub that is in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for file in ("config.json", "adapter_config.json"):
        try:
            found = try_to_load_from_cache(name, file, revision=revision)
        except HFValidationError:  # no hub id
            return None
        if isinstance(found, str):
            return Path(found).parent.name
    return None


def _content(name: str, named: Any, inputs: Mapping[str, str]) -> Any:
    """The digests of all files that a setting names, as one part; without any, what it names."""
    own = (name, f"{name}/", f"{name}@")
    files = {
        file.removeprefix(name): digest for file, digest in inputs.items() if file == name or file.startswith(own[1:])
    }
    return part(files or str(named))


def _method_parts(settings: Any, inputs: Mapping[str, str]) -> Parts:
    found = {}
    values = asdict(settings)
    for one in fields(settings):
        name, path = f"method.{one.name}", one.metadata.get("path")
        if path != _WRITTEN:
            found[name] = part(values[one.name]) if path is None else _content(name, values[one.name], inputs)
    return found


def _model_parts(model: Any, lm: LanguageModel, inputs: Mapping[str, str]) -> Parts:
    tokenizer = lm.tokenizer
    spaces = bool(getattr(tokenizer, "clean_up_tokenization_spaces", False))
    found: Parts = {
        "model.hash": lm.fingerprint,
        "model.dtype": model.dtype,
        "model.attention": str(lm.config._attn_implementation),
        "model.device": lm.device.type,
        "model.end_ids": sorted(lm.end_ids),  # of generation settings nothing else reaches a number
        "model.tokenizer.clean_up_tokenization_spaces": spaces,
        "model.templates": part(list(model.templates)) if model.templates is not None else "sampled",
    }
    if any(path is not None for path in model.architecture.values()):
        found["model.architecture"] = part(OmegaConf.to_container(model.architecture))
    if model.covariance is not None:  # texts are then of no use
        return {**found, "model.covariance": _content("model.covariance", model.covariance, inputs)}
    found["model.texts"] = _content("model.texts", model.texts, inputs)
    return {**found, "model.texts_tokens": model.texts_tokens} if model.texts == "self" else found


def _of_version(name: str) -> str:
    """The part that is a formula's version: the method's own is a part of the method, in which rivals may differ."""
    return "method.version" if name == "method" else f"versions.{name}"


def _protocol_parts(protocol: Any, dataset: str) -> Parts:
    settings: Any = OmegaConf.to_container(protocol, resolve=True)
    return {
        **{f"protocol.{name}": part(value) for name, value in settings.items() if name not in _NO_SCORE},
        "protocol.final_first": final_first_of(protocol, dataset),
        **{f"protocol.headline.{name}": measure for name, measure in headline_of(protocol, dataset).items()},
    }


def _ability_parts(settings: Any, ability: Iterable[AbilityTest], inputs: Mapping[str, str]) -> Parts:
    about = {name: fact for test in ability for name, fact in test.about().items()}
    found: Parts = {"ability.tasks": part(sorted(settings.tasks))}
    if not settings.tasks:
        return found
    found |= {"ability.limit": settings.limit, "ability.num_fewshot": settings.num_fewshot}
    if settings.include_path is not None:
        found["ability.include_path"] = _content("protocol.ability.include_path", settings.include_path, inputs)
    return {**found, **{f"versions.ability.{name}": part(fact) for name, fact in about.items()}}
