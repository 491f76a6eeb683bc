"""Config of parts of a protocol: tests of general ability, and the judge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from editbench.checks import above_zero, not_empty, whole_number

JUDGED = ("judge", "judge_agreement", "judge_unclear")
"""Metrics of a judge's verdicts; a run has all of them or none."""
_OPERATION = ("key_variable", "timeout", "retries", "parallel")  # fields of the judge that change no verdict
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


@dataclass
class AbilityConfig:
    """General ability, measured on the unedited model, at ``stream.evaluate_at`` and at the end.

    Attributes:
        tasks: "pocket" (the embedded world's own questions), "known" (facts of the dataset that the model knew before),
            "glue_sst2" and others (from files), or names of lm-eval's tasks, groups and tags; none by default.
        glue_path: Folder with sst2.jsonl, mrpc.jsonl, … for the tests "glue_sst2", "glue_mrpc", …
        limit: Number of documents of each task of lm-eval, null: all; of each of "glue_…", null: 100.
        num_fewshot: lm-eval: solved examples before each question; null is the task's own number, or else none.
        include_path: lm-eval: folder with further task files.
        batch_size: lm-eval: rows at once in tasks that generate; given answers go by ``protocol.tokens_per_batch``.
    """

    tasks: list[str] = field(default_factory=list)
    glue_path: str | None = None
    limit: int | None = None
    num_fewshot: int | None = None
    include_path: str | None = None
    batch_size: int = 8


@dataclass
class JudgeConfig:
    """A model that says whether generated answers are right; with it come the metrics ``judge…``.

    Attributes:
        model: The judge: "pocket", a fetched model, a folder or a hub id; with ``url`` its name there; null: no judge.
        url: OpenAI-compatible endpoint that is asked over the network ("http://localhost:8000/v1"); null: it runs here.
        key_variable: Name of the environment variable that holds the endpoint's key; null sends none.
        max_tokens: Longest reply of the judge, in tokens.
        dtype: Of a judge that runs here: "float32", "bfloat16", "float16" or "float64".
        device: Of a judge that runs here, as model.device.
        revision: Hub revision of a judge that runs here.
        timeout: Seconds to wait for the endpoint.
        retries: How often a question is put again after a time-out, a lost connection, or status 429 or 5xx.
        parallel: Questions that are put to the endpoint at once.
    """

    model: str | None = None
    url: str | None = None
    key_variable: str | None = None
    max_tokens: int = 16
    dtype: str = "float32"
    device: str = "auto"
    revision: str | None = None
    timeout: float = 60.0
    retries: int = 5
    parallel: int = 4

    def __post_init__(self) -> None:
        if self.model is not None:
            not_empty(**{"protocol.judge.model": self.model})
        whole_number(1, **{"protocol.judge.max_tokens": self.max_tokens, "protocol.judge.parallel": self.parallel})
        whole_number(0, **{"protocol.judge.retries": self.retries})
        above_zero(**{"protocol.judge.timeout": self.timeout})
        if self.url is not None:
            _check_url(self.url)
            if self.model is None:
                raise ValueError("protocol.judge.url needs the judge's name there: protocol.judge.model=NAME")
        if self.key_variable is not None:
            if not _VARIABLE.fullmatch(self.key_variable):  # it may be the key itself, which no message shows
                raise ValueError(
                    "protocol.judge.key_variable must be the name of an environment variable, in capitals, which holds "
                    "the key: export JUDGE_KEY=…, then protocol.judge.key_variable=JUDGE_KEY"
                )
            if self.url is None:
                raise ValueError("protocol.judge.key_variable is for an endpoint: give protocol.judge.url too")

    def deciding(self) -> dict[str, Any]:
        """The settings that change verdicts; none without a judge."""
        plain = asdict(self) if self.model is not None else {}
        return {name: value for name, value in plain.items() if name not in _OPERATION}

    def with_its_metrics(self, metrics: Sequence[str]) -> list[str]:
        """The metrics of a protocol, with the judge's if there is one; a ValueError if they are asked for without."""
        own = [name for name in metrics if name in JUDGED]
        if self.model is None and own:
            raise ValueError(
                f"protocol.metrics has {own[0]}, and there is no judge; give a local model with "
                "protocol.judge.model=PATH, or an endpoint with protocol.judge.url=URL protocol.judge.model=NAME"
            )
        return [*metrics, *(name for name in JUDGED if name not in metrics and self.model is not None)]


def _check_url(url: str) -> None:
    """Refuse what is no plain address; a message shows no part that may be a secret."""
    try:
        parts = urlsplit(url)
        plain = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        plain = False
    if not plain:
        raise ValueError(
            "protocol.judge.url is no address of an endpoint; it must be like http://localhost:8000/v1, without "
            "/chat/completions"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "protocol.judge.url has a user, a password or a query in it, which results would show; leave them out, and "
            "give the key in the environment variable that protocol.judge.key_variable names"
        )
    if parts.path.rstrip("/").endswith("/chat/completions"):
        raise ValueError("protocol.judge.url must end before /chat/completions, which is added to it")
