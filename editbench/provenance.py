"""Provenance of a run: versions, files, commit and machine that it was made with, and the parts of its identity."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench import fetched, registry
from editbench.config import ModelConfig, ProtocolConfig, RunConfig
from editbench.datasets.disjoint import tuned_on
from editbench.files import file_digests
from editbench.model_places import model_place
from editbench.records import RecordSet
from editbench.results.identity import Parts, differences, identify, listed, part
from editbench.results.schema import SCHEMA

if TYPE_CHECKING:
    from editbench.evaluation.general_ability import AbilityTest
    from editbench.model.language_model import LanguageModel
    from editbench.stream import Stream

FORMULAS = {
    "drift": "editbench.evaluation.drift",
    "interval": "editbench.results.intervals",
    "likelihood": "editbench.model.likelihood",
    "perplexity": "editbench.evaluation.perplexity",
    "questions": "editbench.evaluation.questions",
}
"""Modules by formula; a module's ``VERSION`` changes with its numbers."""
OF_GENERATING = {
    "generating": "editbench.model.generation",  # "generation" is a metric
    "answer_matching": "editbench.evaluation.generated_text",
}
"""Modules behind metrics of generated text."""
OF_LM_EVAL = {"lm_eval": "editbench.evaluation.general_ability.lm_eval"}  # modules behind tasks of lm-eval
OF_GLUE = {"glue": "editbench.evaluation.general_ability.glue"}  # modules behind its tasks from files
OF_HIDDEN_SHIFT = {"hidden_shift": "editbench.evaluation.hidden_shift"}  # of protocol.hidden_shift
OF_METHODS = {
    "covariance": "editbench.locate_then_edit.covariance",
    "prompts": "editbench.locate_then_edit.prompts",
    "sampled_texts": "editbench.resources",
    "multi_layer": "editbench.locate_then_edit.multi_layer",
    "templates": "editbench.locate_then_edit.templates",
    "values": "editbench.locate_then_edit.value_cache",
}
"""Modules that methods share; a method's own version is :attr:`editbench.editor.Editor.version`."""
HUB = "hub:"
_NO_SCORE = (
    "name",
    "stages",
    "tokens_per_batch",
    "headline",
    "final_first",
    "metrics",
    "data",
    "ability",
    "text_sample",
    "hidden_shift",
    "judge",
)
"""Settings of a protocol that change no score, or are in another part (metrics in versions, data in its hash)."""
MODELS = ("model.path", "protocol.judge.model")  # settings that name a model
WRITTEN = "written"  # metadata of a setting that holds a path to write to


def of_config(config: RunConfig, records: RecordSet, stream: Stream) -> dict[str, Any]:
    """Provenance that needs no model."""
    return {
        "dataset": {
            "name": records.name,
            "path": config.dataset.path,
            "hash": records.fingerprint,
            "split": asdict(records.split),
            **_published(config),
            "skipped": [asdict(one) for one in records.skipped],
        },
        "stream": {
            "hash": stream.fingerprint,
            "edits": len(stream),
            "batch_size": stream.batch_size,
            "mode": config.stream.mode,
            "revisions": [[earlier, later.id] for earlier, later in stream.revisions.items()],
            "conflicts": [list(pair) for pair in stream.conflicts],
            "records_in_dataset": len(records),
            "seed": config.stream.seed,
        },
        "method": {
            "name": config.method.name,
            "hparams": config.method.hparams,
            "config": asdict(config.method.settings),
            **_tuning(config, records, stream),
        },
        "protocol": config.deciding()["protocol"],
        "seed": config.stream.seed,
        "versions": versions(config.protocol, config.method.name),
        "inputs": inputs(config),
    }


def _tuning(config: RunConfig, records: RecordSet, stream: Stream) -> dict[str, Any]:
    """How the hparams were tuned, and the number of edits on which they were; nothing for others."""
    found = [registry.read_tuning(file) for file in config.method.tuning]
    if not found:
        return {}
    hashes = {one for tuning in found for one in tuning.records}
    overlap = len(tuned_on(stream.records, records.prompt_format, hashes))
    return {"tuning": {**found[-1].facts, "overlap": overlap}}


def of_model(
    config: RunConfig, lm: LanguageModel, records: RecordSet, stream: Stream, ability: Iterable[AbilityTest]
) -> dict[str, Any]:
    """The rest of the provenance, and the run's identity. ``lm`` is unedited, the tests of ``ability`` are loaded."""
    files = inputs(config)  # again: a model of the hub has its commit once it was loaded
    about = {name: fact for test in ability for name, fact in test.about().items()}
    formulas = versions(config.protocol, config.method.name)
    decides: Parts = {
        "method": config.method.name,
        **_method_parts(config.method.settings, files),
        **_model_parts(config.model, lm, files),
        "dataset.hash": records.fingerprint,
        "stream.edits": len(stream),
        "stream.batch_size": stream.batch_size,
        "stream.sample": config.stream.sample,
        "stream.order": config.stream.order,
        **({"stream.revisions": config.stream.revisions} if config.stream.revisions else {}),
        **({"stream.stop_when": list(config.stream.stop_when)} if config.stream.stop_when else {}),
        **({"stream.mode": config.stream.mode} if stream.single else {}),  # runs before the setting are sequential
        **_protocol_parts(config.protocol, about, files),
        # the method's version belongs to the method, in which compared runs may differ
        **{"method.version" if name == "method" else f"versions.{name}": of for name, of in formulas.items()},
        **{name: metadata.version(name) for name in ("editbench", "torch", "transformers")},
    }
    model = {"name": lm.name, "path": config.model.path, "hash": lm.fingerprint, **lm.origin}
    return {**environment(), **identify(decides), "inputs": files, "model": model, "ability": about}


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What has changed between a run's provenance and that of a command, as one clause; None if nothing has."""
    if (schema := before.get("schema", 1)) != SCHEMA:
        return f"it was made with schema {schema}, and formulas of {SCHEMA} differ"
    for name in ("dataset", "stream"):
        if why := other_hash(before, now, name):
            return why
    for name, what in {
        "inputs": "files that the run read have changed since it was started",
        "versions": "formulas have changed since the run was started",
    }.items():
        if different := differences(before[name], now[name]):
            return f"{what}: {listed(different)}"
    return None


def other_hash(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> str | None:
    """A clause on the model, dataset or stream if its hash has changed; None if it has not, or was unknown."""
    old, new = before.get(name, {}).get("hash"), now[name]["hash"]
    if old is None or old == new:
        return None
    return f"the {name} has changed since this run was started (hash {old[:12]}, now {new[:12]})"


def versions(protocol: ProtocolConfig, method: str) -> dict[str, int]:
    """Version of every formula that a run's numbers come from, by name; the method's own as "method"."""
    from editbench.evaluation.general_ability import is_built_in
    from editbench.evaluation.metrics import GENERATING, get_metric

    chosen = [get_metric(name) for name in protocol.metrics]
    modules = {**FORMULAS, **OF_METHODS}
    if any(metric.needs in (*GENERATING, "free_text") for metric in chosen):
        modules |= OF_GENERATING
    if not all(map(is_built_in, protocol.ability.tasks)):
        modules |= OF_LM_EVAL
    if any(task.startswith("glue_") for task in protocol.ability.tasks):
        modules |= OF_GLUE
    if protocol.hidden_shift is not None:
        modules |= OF_HIDDEN_SHIFT
    found = {name: int(import_module(module).VERSION) for name, module in modules.items()}
    found["method"] = registry.load_method(method).version
    return dict(sorted({**found, **{metric.name: metric.version for metric in chosen}}.items()))


def inputs(config: RunConfig) -> dict[str, str]:
    """SHA-256 of every file that the config names by path ("model.path/config.json"), without the dataset's.

    A model of the hub has its commit instead, once it is in the hub's cache.
    """
    found: dict[str, str] = {}
    revisions = dict(zip(MODELS, (config.model.revision, config.protocol.judge.revision), strict=True))
    for name, path in _paths(config).items():
        place = Path(model_place(path) if name in MODELS else path).expanduser()
        for file, digest in file_digests(place, config.cache).items():
            found[f"{name}/{file}" if file else name] = digest
        revision = revisions.get(name)
        if not place.exists() and (commit := _commit(path, revision)):
            found[f"{name}@commit"] = commit
    return found


def _published(config: RunConfig) -> dict[str, str]:
    """SHA-256 of the data file, by which a stranger can get the same one, and the address of a fetched one."""
    path = config.dataset.path
    file = fetched.find_dataset(config.dataset.name) if path == fetched.FETCHED else Path(path).expanduser()
    if not file.is_file():  # a folder, the hub, the embedded world
        return {}
    source = fetched.read_source(file.parent).get("source") if path == fetched.FETCHED else None
    return {"sha256": file_digests(file, config.cache)[""], **({"source": source} if source else {})}


def environment() -> dict[str, Any]:
    """Versions of the libraries that decide numbers, commit of the checkout, and machine."""
    import torch

    return {
        **{name: _version(name) for name in ("editbench", "torch", "transformers", "tokenizers", "safetensors")},
        "python": platform.python_version(),
        "commit": commit(),
        "platform": platform.platform(),
        "cpu": f"{processor()}, {torch.get_num_threads()} threads",
        "threads": torch.get_num_threads(),  # a resume uses as many; no part of the identity, as the processor is none
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def commit() -> str | None:
    """Commit of the checkout that this package runs from, with "+" if files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _paths(config: RunConfig) -> dict[str, str]:
    model, settings, judge = config.model, config.method.settings, config.protocol.judge
    texts = None if model.texts in ("self", "pocket") or model.texts.startswith(HUB) else model.texts
    found = {
        "model.path": model.path,
        "model.covariance": model.covariance,
        "model.texts": texts,
        "protocol.ability.include_path": config.protocol.ability.include_path,
        "protocol.judge.model": judge.model if judge.url is None else None,
    }
    own = [one.name for one in fields(settings) if one.metadata.get("path", WRITTEN) != WRITTEN]
    found |= {f"method.{name}": getattr(settings, name) for name in own}
    return {name: str(path) for name, path in found.items() if path is not None}


def _commit(name: str, revision: str | None) -> str | None:
    """Commit of a model in the hub's cache."""
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
    """Digests of all files of a setting as one part, or its value where it names no file."""
    places = (f"{name}/", f"{name}@")
    own = {file.removeprefix(name): of for file, of in inputs.items() if file == name or file.startswith(places)}
    return part(own or str(named))


def _method_parts(settings: Any, inputs: Mapping[str, str]) -> Parts:
    found, values = {}, asdict(settings)
    for one in fields(settings):
        name, path = f"method.{one.name}", one.metadata.get("path")
        if path != WRITTEN:
            found[name] = part(values[one.name]) if path is None else _content(name, values[one.name], inputs)
    return found


def _model_parts(model: ModelConfig, lm: LanguageModel, inputs: Mapping[str, str]) -> Parts:
    tokenizer, architecture = lm.tokenizer, asdict(model.architecture)
    found: Parts = {
        "model.hash": lm.fingerprint,
        "model.dtype": model.dtype,
        **({"model.edited_dtype": model.edited_dtype} if model.edited_dtype is not None else {}),
        "model.attention": str(lm.config._attn_implementation),
        "model.device": lm.device.type,
        "model.end_ids": sorted(lm.end_ids),  # no other generation setting reaches a number
        "model.tokenizer.clean_up_tokenization_spaces": bool(getattr(tokenizer, "clean_up_tokenization_spaces", False)),
        "model.templates": part(model.templates) if model.templates is not None else "sampled",
    }
    if any(path is not None for path in architecture.values()):
        found["model.architecture"] = part(architecture)
    if model.covariance is not None:  # texts are then unused
        return {**found, "model.covariance": _content("model.covariance", model.covariance, inputs)}
    found["model.texts"] = _content("model.texts", model.texts, inputs)
    return {**found, "model.texts_tokens": model.texts_tokens} if model.texts == "self" else found


def _protocol_parts(protocol: ProtocolConfig, about: Mapping[str, Any], inputs: Mapping[str, str]) -> Parts:
    """Parts of the protocol; of general ability only those that matter for the chosen tasks."""
    ability = protocol.ability
    found: Parts = {
        **{f"protocol.{name}": part(value) for name, value in asdict(protocol).items() if name not in _NO_SCORE},
        "protocol.final_first": protocol.final_first,
        **({"protocol.text_sample": protocol.text_sample} if protocol.text_sample else {}),
        **({"protocol.hidden_shift": protocol.hidden_shift} if protocol.hidden_shift else {}),
        **{f"protocol.headline.{name}": measure for name, measure in protocol.headline.items()},
        "ability.tasks": part(sorted(ability.tasks)),
    }
    if judge := protocol.judge.deciding():
        model = judge.pop("model")
        found["protocol.judge"] = part(judge)
        found["protocol.judge.model"] = _content("protocol.judge.model", model, inputs)
    if not ability.tasks:
        return found
    found |= {"ability.limit": ability.limit, "ability.num_fewshot": ability.num_fewshot}
    if ability.include_path is not None:
        found["ability.include_path"] = _content("protocol.ability.include_path", ability.include_path, inputs)
    return {**found, **{f"versions.ability.{name}": part(fact) for name, fact in about.items()}}
