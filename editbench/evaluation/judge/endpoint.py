"""A judge behind an OpenAI-compatible HTTP endpoint: ``POST URL/chat/completions``, with retries.

Nothing but what the settings say is sent, to no other address: redirects are not followed. The key is read from the
environment when it is needed, and stands in no message.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2

    from editbench.protocol_parts import JudgeConfig

PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the first repetition, doubled before each further one; the longest wait."""
MAX_REPLY = 1 << 20  # bytes of a response
_SHOWN = 200  # characters of a refusal that an error shows


class JudgeError(OSError):
    """An endpoint that cannot be asked, or does not answer as one; the message says what to do."""


class _Again(Exception):
    """A failure that another try may mend; ``pause`` are the seconds that the endpoint asks for."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


def check_key(judge: JudgeConfig) -> None:
    """Refuse a judge whose key is not in the environment, or cannot be sent."""
    if judge.key_variable is None:
        return
    shown, key = f"protocol.judge.key_variable={judge.key_variable}", _key(judge)
    if not key:
        raise ValueError(
            f"{shown}: the environment has no such variable, or it is empty; export {judge.key_variable}=… first"
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError(f"{shown}: its value has blanks or other characters that no key has; export the key alone")


def _key(judge: JudgeConfig) -> str:
    return os.environ.get(judge.key_variable, "").strip() if judge.key_variable else ""


class Endpoint:
    """Puts prompts to the endpoint of these settings."""

    def __init__(self, settings: JudgeConfig) -> None:
        check_key(settings)
        self._settings = settings
        self._url = f"{str(settings.url).rstrip('/')}/chat/completions"
        self._key = _key(settings)
        self._stop = threading.Event()
        self._reached = False  # whether it ever answered

    @property
    def identity(self) -> list[Any]:
        """All that decides a reply besides the prompt."""
        return ["endpoint", self._settings.url, self._settings.model, self._settings.max_tokens]

    def replies(self, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Index and reply of each prompt, as they come. A failure is raised after the replies that are on their way.

        Raises:
            JudgeError: No answer after all tries, a refusal, or a response that is no chat completion.
        """
        import httpx2

        failure: BaseException | None = None
        self._stop.clear()
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        with (
            httpx2.Client(timeout=self._settings.timeout, headers=headers) as client,
            ThreadPoolExecutor(self._settings.parallel) as pool,
        ):
            asked = {pool.submit(self._reply, client, prompt): at for at, prompt in enumerate(prompts)}
            try:
                for done in as_completed(asked):
                    if (error := done.exception()) is None:
                        yield asked[done], done.result()
                    else:
                        failure = failure or error
            finally:
                self._stop.set()
        if failure is not None:
            raise failure

    def _reply(self, client: httpx2.Client, prompt: str) -> str:
        if self._stop.is_set():
            raise JudgeError("not asked, as another question failed")
        try:
            return self._tried(client, prompt)
        except BaseException:
            self._stop.set()
            raise

    def _tried(self, client: httpx2.Client, prompt: str) -> str:
        tries = self._settings.retries + 1
        for attempt in range(tries):
            try:
                return self._request(client, prompt)
            except _Again as error:
                if attempt + 1 == tries or self._stop.is_set():
                    times = "once" if tries == 1 else f"{tries} times"
                    raise JudgeError(
                        f"the judge at {self._settings.url} was asked {times} without an answer ({error}). The "
                        "verdicts so far are kept, and the same command goes on; see whether the judge runs, or raise "
                        "protocol.judge.timeout or protocol.judge.retries"
                    ) from None
                pause = PAUSE * 2**attempt if error.pause is None else error.pause
                self._stop.wait(min(pause, LONGEST_PAUSE))
        raise AssertionError("the last try returns or raises")

    def _request(self, client: httpx2.Client, prompt: str) -> str:
        import httpx2

        settings = self._settings
        body = {
            "model": settings.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": settings.max_tokens,
        }
        try:
            with client.stream("POST", self._url, json=body) as response:
                content = _read(response, time.monotonic() + settings.timeout)
                status, asked_pause = response.status_code, response.headers.get("Retry-After", "")
        except httpx2.ConnectError as error:
            if not self._reached:
                raise JudgeError(
                    f"there is no judge at {settings.url} ({error}); start it, or correct protocol.judge.url. The same "
                    "command goes on"
                ) from None
            raise _Again(str(error)) from None
        except httpx2.TransportError as error:
            raise _Again(f"{type(error).__name__}: {error}".removesuffix(": ")) from None
        self._reached = True
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _Again(f"status {status}", float(asked_pause) if asked_pause.isdecimal() else None)
        if status != HTTPStatus.OK:
            raise JudgeError(
                f"the judge at {settings.url} refuses, with status {status}: {self._shown(content)}. The verdicts so "
                "far are kept; correct protocol.judge.model or its key, and the same command goes on"
            )
        return self._completion(content)

    def _completion(self, content: bytes) -> str:
        import json

        try:
            text = json.loads(content)["choices"][0]["message"]["content"]
            if text is not None and not isinstance(text, str):
                raise TypeError
        except (ValueError, LookupError, TypeError, RecursionError):
            raise JudgeError(
                f"what is at {self._settings.url} answers without a chat completion: {self._shown(content)}; "
                "correct protocol.judge.url, which should end as in http://localhost:8000/v1"
            ) from None
        return text or ""

    def _shown(self, content: bytes) -> str:
        """The beginning of a response, in one line and without the key, which it may repeat."""
        text = " ".join(content.decode("utf-8", "replace").split())
        if self._key:
            text = text.replace(self._key, "(key)")
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _read(response: httpx2.Response, deadline: float) -> bytes:
    """The whole response: a slow one does not last longer than the time-out, and a large one is cut."""
    found = b""
    for block in response.iter_bytes():
        found += block
        if time.monotonic() > deadline:
            raise _Again("it takes longer than protocol.judge.timeout")
        if len(found) > MAX_REPLY:
            break
    return found
