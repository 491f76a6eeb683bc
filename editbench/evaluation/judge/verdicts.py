"""A run's judge: verdicts on generated answers, each asked for once and kept in the cache by content.

A file of the cache holds the whole question with the reply, and a digest: a damaged one is asked for again. The key
has all that decides a reply (:attr:`Asked.identity`), and the question, which has the prompt's wording.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from editbench.costs import VERDICTS, CachedCosts
from editbench.evaluation import generated_text
from editbench.evaluation.judge.endpoint import Endpoint
from editbench.evaluation.judge.prompt import Verdict, judge_prompt
from editbench.evaluation.scoring_plan import ScoringPlan
from editbench.files import canonical, write_atomic
from editbench.progress import progress

if TYPE_CHECKING:
    from editbench.config import ProtocolConfig
    from editbench.evaluation.questions import Question
    from editbench.model.generation import Generated
    from editbench.protocol_parts import JudgeConfig
    from editbench.stream import Stream

FORMAT = 1
"""Changes with the layout of the cached files."""


class Asked(Protocol):
    """What answers a judge's prompts."""

    @property
    def identity(self) -> list[Any]:
        """All that decides a reply besides the prompt."""

    def replies(self, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Index and reply of each prompt, as they come."""


def open_judge(
    settings: JudgeConfig, cache: Path | None, costs: CachedCosts, plain: Callable[[str], str]
) -> Judge | None:
    """The judge of these settings; None without one. A local one is loaded now, an endpoint is not asked yet.

    Args:
        plain: Takes the data set's format off a prompt.
    """
    if settings.model is None:
        return None
    if settings.url is not None:
        return Judge(Endpoint(settings), cache, costs, plain)
    from editbench.evaluation.judge.local import LocalJudge

    return Judge(LocalJudge(settings), cache, costs, plain)


def judge_line(protocol: ProtocolConfig, stream: Stream, unrelated: int, seed: int) -> str:
    """Which judge a run will ask how often, in one line; empty without one.

    ``unrelated`` is the number of questions of no record.
    """
    judge = protocol.judge
    if judge.model is None:
        return ""
    most = ScoringPlan(stream, protocol, seed).most_answers(unrelated)
    place = "here" if judge.url is None else f"over the network at {judge.url}"
    return (
        f"the judge {judge.model} is asked {place}, at most {most} times; verdicts in the cache are not asked for again"
    )


class Judge:
    """Gives verdicts; keeps them in memory, and on disk if there is a folder."""

    def __init__(self, asked: Asked, cache: Path | None, costs: CachedCosts, plain: Callable[[str], str] = str) -> None:
        self._asked, self._cache, self._costs, self._plain = asked, cache, costs, plain
        self._replies: dict[str, str] = {}  # by prompt

    def verdicts(self, answers: Sequence[tuple[Question, Generated | None]]) -> list[Verdict | None]:
        """The verdict on each answer; None where there is none, or no right answer is known.

        An answer that is empty, or has no numbers behind it, is wrong without being asked about.
        """
        prompts = [self._prompt(question, generated) for question, generated in answers]
        self._find([prompt for prompt in dict.fromkeys(prompts) if prompt])
        return [Verdict.of(self._replies[p]) if p else None if p is None else Verdict(False) for p in prompts]

    def _prompt(self, question: Question, generated: Generated | None) -> str | None:
        """The judge's prompt; empty for an answer that is wrong anyway."""
        if generated is None or not question.labelled:
            return None
        answer = generated_text.cut(generated.text, question.longest)
        if not (answer and generated.finite):
            return ""
        return judge_prompt(self._plain(question.probe.prompt), question.spellings, answer)

    def _find(self, prompts: Sequence[str]) -> None:
        missing = [p for p in prompts if p not in self._replies and not self._read(p)]
        if not missing:
            return
        before = time.perf_counter()
        with progress("verdicts", len(missing)) as advance:
            for at, reply in self._asked.replies(missing):
                now = time.perf_counter()
                self._write(missing[at], reply, now - before)
                before = now
                advance()

    def _file(self, prompt: str) -> tuple[str, str]:
        """Key of a question, and its file's path from the cache's folder."""
        key = hashlib.sha256(canonical([FORMAT, self._asked.identity, prompt])).hexdigest()[:32]
        return key, f"verdicts/{key[:2]}/{key}.json"

    def _read(self, prompt: str) -> bool:
        """Read a reply from disk; False if it is not there or damaged."""
        key, name = self._file(prompt)
        if self._cache is None or not (file := self._cache / name).is_file():
            return False
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            content, digest = stored["content"], stored["digest"]
            if stored["key"] != key or digest != _digest(content) or content["prompt"] != prompt:
                raise ValueError("its content does not match its digest")
            self._replies[prompt] = content["reply"]
            self._costs.note(VERDICTS, float(content["seconds"]), read=True)
        except (ValueError, KeyError, TypeError, OSError) as error:
            warnings.warn(f"the cached verdict {file} is damaged ({error}); the judge is asked again", stacklevel=2)
            return False
        self._costs.digests[name] = digest
        return True

    def _write(self, prompt: str, reply: str, seconds: float) -> None:
        self._replies[prompt] = reply
        self._costs.note(VERDICTS, seconds, read=False)
        if self._cache is None:
            return
        key, name = self._file(prompt)
        content = {"prompt": prompt, "reply": reply, "seconds": seconds}
        digest = _digest(content)
        (self._cache / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._cache / name, json.dumps({"key": key, "digest": digest, "content": content}).encode())
        self._costs.digests[name] = digest


def _digest(content: Any) -> str:
    return hashlib.sha256(canonical(content)).hexdigest()
