"""Resources of an editor besides model and requests: texts for covariance, templates, cache, seed, prompt format."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor

from editbench.config import ModelConfig
from editbench.costs import TEXTS, CachedCosts
from editbench.datasets.disjoint import record_hash
from editbench.datasets.hub import HUB_PREFIX
from editbench.files import canonical, replacing
from editbench.model.devices import seeded
from editbench.progress import progress
from editbench.records import EditRecord, EditRequest, PromptFormat

if TYPE_CHECKING:
    from editbench.model.language_model import LanguageModel

VERSION = 2  # changes with the texts that are sampled from the same model and seed
BATCH, LENGTH = 64, 64  # texts sampled at once, and tokens of each


@dataclass(frozen=True)
class Resources:
    """Resources of an editor; the probes are none of them.

    A TypeError if ``texts`` or ``templates`` are one text, which would be read letter by letter, or a path.
    """

    texts: Sequence[str] = field(default=(), repr=False)  # plain texts for covariance, in order
    texts_name: str = ""  # of their source, kept beside a covariance
    templates: Sequence[str] | None = None  # with one "{}" each; None samples them with the seed
    covariance: Mapping[int, Tensor] | Path | str | None = None
    """By layer, (d_ff, d_ff) each, or a file with them (keys: layer numbers); None computes from texts."""
    cache: Path | None = None  # folder
    seed: int = 0
    costs: CachedCosts = field(default_factory=CachedCosts, repr=False)  # takes the seconds of what is computed or read
    prompt_format: PromptFormat = field(default_factory=PromptFormat)  # of the requests, for a method's own prompts
    load_training_records: Callable[[], Sequence[EditRecord]] | None = field(default=None, repr=False)
    """Reads the records of the dataset's split "train", which no stream edits; None: there are none."""
    dataset: str = ""  # name of the dataset, for messages

    def __post_init__(self) -> None:
        for name in ("texts", "templates"):
            if isinstance(one := getattr(self, name), (str, bytes, Path)):
                raise TypeError(
                    f"{name} of Resources is {str(one)[:60]!r}; give a list of texts, for those of a file "
                    f"{name}=editbench.datasets.load_texts(PATH)"
                )

    def hash_of(self, request: EditRequest) -> str:
        """Hash of the fact that a request edits (:func:`editbench.datasets.disjoint.record_hash`)."""
        return record_hash(request, self.prompt_format)

    @cached_property
    def training_records(self) -> Sequence[EditRecord]:
        """Records to learn from, with their probes, read on the first use; a ValueError if there are none."""
        if self.load_training_records is None:
            raise ValueError("this method learns from training records, and none were given")
        return self.load_training_records()

    @classmethod
    def build(
        cls,
        lm: LanguageModel,
        model: ModelConfig,
        cache: Path,
        seed: int,
        prompt_format: PromptFormat,
        costs: CachedCosts | None = None,
        scored: Mapping[str, str] | None = None,
        load_training_records: Callable[[], Sequence[EditRecord]] | None = None,
        dataset: str = "",
    ) -> Resources:
        """The resources of a config; texts are made, and training records read, when an editor first asks for them.

        ``scored`` are the texts whose perplexity is measured (:func:`editbench.datasets.disjoint.scored_texts`): a
        ValueError if the texts for covariance, once they are read, have one of them.
        """
        costs = costs or CachedCosts()
        texts = LazyTexts(lm, model.texts, model.texts_tokens, seed, scored, cache, costs)
        named = Path(model.texts).name if Path(model.texts).expanduser().exists() else model.texts
        given = (texts, named, model.templates, model.covariance, cache, seed, costs, prompt_format)
        return cls(*given, load_training_records, dataset)


class LazyTexts(Sequence[str]):
    """Plain texts for covariance, made on the first use: many methods never read them.

    Those of the hub are read one by one as they are iterated over: a large collection is never loaded whole. Sampled
    ones are kept in the folder ``cache``; ``costs`` gets the seconds that they took.
    """

    def __init__(
        self,
        lm: LanguageModel,
        source: str,
        tokens: int,
        seed: int,
        scored: Mapping[str, str] | None = None,
        cache: Path | None = None,
        costs: CachedCosts | None = None,
    ) -> None:
        self._lm, self._source, self._tokens, self._seed = lm, source, tokens, seed
        self._scored, self._cache, self._costs = scored or {}, cache, costs or CachedCosts()

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._texts[index]

    def __iter__(self) -> Iterator[str]:
        return self._streamed() if self._source.startswith(HUB_PREFIX) else iter(self._texts)

    def _streamed(self) -> Iterator[str]:
        from editbench import datasets
        from editbench.datasets.disjoint import keep_apart

        for text in datasets.iterate_texts(self._source):
            keep_apart("model.texts", [text], self._scored)
            yield text

    def __len__(self) -> int:
        return len(self._texts)

    @cached_property
    def _texts(self) -> list[str]:
        if self._source == "self":
            return self._sampled()
        from editbench import datasets
        from editbench.datasets.disjoint import keep_apart
        from editbench.pocket import dataset_files

        texts = dataset_files.plain_text(0) if self._source == "pocket" else datasets.load_texts(self._source)
        keep_apart("model.texts", texts, self._scored)
        return texts

    def _sampled(self) -> list[str]:
        """Texts sampled from the model, now or by an earlier process."""
        key = canonical([VERSION, self._lm.fingerprint, self._lm.numerics, self._tokens, self._seed])
        name = f"texts/{hashlib.blake2b(key, digest_size=16).hexdigest()}.json"
        if self._cache is not None and (found := _read_texts(self._cache / name)) is not None:
            self._costs.note(TEXTS, found[1], read=True)
            return found[0]
        self._costs.missing(TEXTS, name)
        begun = time.perf_counter()
        texts = sample_texts(self._lm, self._tokens, self._seed)
        seconds = time.perf_counter() - begun
        self._costs.note(TEXTS, seconds, read=False)
        if self._cache is not None:
            file = self._cache / name
            file.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256(canonical(texts)).hexdigest()
            with replacing(file) as temporary:
                temporary.write_text(json.dumps({"digest": digest, "seconds": seconds, "texts": texts}), "utf-8")
        return texts


def _read_texts(file: Path) -> tuple[list[str], float] | None:
    """Kept texts, and the seconds that they took; None without the file, with a warning if it is damaged."""
    try:
        kept = json.loads(file.read_text("utf-8"))
        if kept["digest"] != hashlib.sha256(canonical(kept["texts"])).hexdigest():
            raise ValueError("its content does not match its digest")
        return kept["texts"], float(kept["seconds"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        warnings.warn(f"the sampled texts {file} are damaged ({error}) and are sampled again", stacklevel=2)
        return None


@torch.no_grad()
def sample_texts(lm: LanguageModel, tokens: int, seed: int) -> list[str]:
    """About ``tokens`` tokens of text, sampled from the unedited model after BOS at temperature 1."""
    tokenizer = lm.tokenizer
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    inputs = torch.full((BATCH, 1), start if start is not None else lm.pad_id, device=lm.device)
    texts: list[str] = []
    rounds = max(1, -(-tokens // (BATCH * LENGTH)))
    with (
        seeded(lm.model, seed),
        progress("sampling plain text", rounds) as advance,
        lm.generation_settings(do_sample=True, top_k=0, max_new_tokens=LENGTH),
    ):
        for _ in range(rounds):
            out = lm.model.generate(input_ids=inputs, attention_mask=torch.ones_like(inputs))
            texts += [str(t) for t in tokenizer.batch_decode(out[:, 1:], skip_special_tokens=True)]
            advance()
    return [t for t in texts if t.strip()]
