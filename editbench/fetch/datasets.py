"""Published data sets: the address and the digest of each file, so that everybody gets the same records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from editbench import datasets
from editbench.fetch.download import DownloadError, copied, download
from editbench.fetch.staging import install, staging
from editbench.fetched import DATASETS, fetched_folder, read_source


@dataclass(frozen=True)
class DataSource:
    """A published file. Without a known SHA-256 that of the first fetched one is recorded, and asked for later."""

    url: str
    revision: str
    sha256: str | None
    licence: str


SOURCES = {
    "counterfact": DataSource(
        url="https://rome.baulab.info/data/dsets/counterfact.json",
        revision="the file of ROME's authors, 21,919 records",
        sha256="d017056125178a13728594e66a801357a8db9ed7973a7425554bb4271de9fc6f",
        licence="MIT (kmeng01/rome)",
    ),
    "zsre": DataSource(
        url="https://rome.baulab.info/data/dsets/zsre_mend_eval.json",
        revision="MEND's evaluation split, as ROME's and MEMIT's authors publish it",
        sha256=None,
        licence="MIT (kmeng01/rome, eric-mitchell/mend); questions of Levy et al., 2017",
    ),
    "hallucination": DataSource(
        url="https://huggingface.co/datasets/potsawee/wiki_bio_gpt3_hallucination/resolve/"
        "3a965f42c706480b0d6bedea37b4f646322ea8a3/data/evaluation-00000-of-00001-e91191b8ff41afbe.parquet",
        revision="3a965f42c706480b0d6bedea37b4f646322ea8a3, 238 passages",
        sha256=None,
        licence="CC-BY-SA-3.0",
    ),
}


def fetch_dataset(name: str, given: Path | None = None) -> Path:
    """Put a published file into the cache, and return its folder; ``given`` is a copy that the user has already."""
    source, place = SOURCES[name], fetched_folder(name)
    recorded = read_source(place).get("sha256")
    expected = source.sha256 or recorded
    with staging(name) as folder:
        made = folder / "data"
        file = made / DATASETS[name]
        try:
            sha256 = copied(given, file, sha256=expected) if given else download(source.url, file, sha256=expected)
        except DownloadError as error:
            if expected and expected == recorded and not source.sha256:
                raise DownloadError(f"{error}; that was recorded when {name} was first fetched, in {place}") from error
            remedy = f"; get it where there is a network, and give it: editbench fetch {name} --from FILE"
            raise DownloadError(f"{error}{'' if given else remedy}") from error
        facts = {"name": name, "source": source.url, "revision": source.revision, "licence": source.licence}
        facts |= {"sha256": sha256, "pinned": "by editbench" if source.sha256 else "when it was first fetched"}
        records = datasets.load(name, file, on_error="skip")
        return install(name, made, {**facts, "records": len(records)})
