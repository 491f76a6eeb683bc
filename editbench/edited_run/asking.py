"""``editbench ask RUN "PROMPT"``: answers of the edited and of the unedited model, side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from editbench.console import quiet_libraries
from editbench.edited_run.opened import EditedModel, open_run
from editbench.json_lines import encode
from editbench.visible_text import visible

TOKENS = 20  # of an answer


@dataclass(frozen=True)
class Answer:
    """What the two models say after a prompt."""

    prompt: str
    edited: str
    unedited: str
    edit: str | None  # id of the edit that answers, of methods that choose one


def ask(run: EditedModel, prompts: Sequence[str], tokens: int = TOKENS) -> list[Answer]:
    """Greedy answers of at most ``tokens`` tokens to plain prompts."""
    routes = run.routes(prompts)
    chosen = [route.id for route in routes] if routes is not None else [None] * len(prompts)
    edited = run.generate(prompts, max_new_tokens=tokens)
    unedited = run.generate_unedited(prompts, max_new_tokens=tokens)
    return [Answer(*of) for of in zip(prompts, edited, unedited, chosen, strict=True)]


def converse(model: EditedModel, prompts: Iterable[str], tokens: int, as_json: bool) -> None:
    """Print the answers to each prompt as it comes."""
    for prompt in prompts:
        (answer,) = ask(model, [prompt], tokens)
        if as_json:
            print(encode(asdict(answer)), flush=True)
            continue
        print(f"edited    {_one_line(answer.edited)}")
        print(f"unedited  {_one_line(answer.unedited)}")
        if answer.edit is not None:
            print(f"from edit {visible(answer.edit)}")
        sys.stdout.flush()


def main(folder: str, prompts: Sequence[str], tokens: int, model: str | None, device: str | None, as_json: bool) -> int:
    """Answer the prompts; without any, those of standard input, line by line."""
    quiet_libraries()
    converse(open_run(folder, model, device), prompts or lines_given(), tokens, as_json)
    return 0


def lines_given() -> Iterator[str]:
    """Lines of standard input up to an empty one; at a terminal a sign asks for each."""
    at_terminal = sys.stdin.isatty()
    if at_terminal:
        print("a prompt a line; an empty line ends", file=sys.stderr)
    while True:
        if at_terminal:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line.strip():
            return
        yield line.rstrip("\n")


def _one_line(text: str) -> str:
    return visible(text.strip().replace("\n", "⏎ "))
