"""The question that is put to a judge, and the reading of its reply; ``docs/judge.md`` shows both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from editbench.words import words

VERSION = 1
"""Changes with the prompt and with the reading of replies; also the version of the judge's metrics."""

PROMPT = """\
A language model was asked a question, or was given a text to continue. Is its answer the right one?

Question or text: {prompt}
Right answer: {right}
Answer of the model: {answer}

Spelling, capitals, grammar and further words do not matter, as long as the answer gives the right answer and nothing \
that contradicts it. Another name of the same thing is right. A different answer, one that is less exact, several \
answers of which only one is right, and no answer are wrong.

Reply with one word: yes if the answer is right, no if it is wrong.
Verdict:"""

_THOUGHT = "</think>"  # ends the thoughts that some models write before their reply
_VERDICTS = {"yes": True, "no": False}


def judge_prompt(prompt: str, right: Sequence[str], answer: str) -> str:
    """The question to a judge about an answer; ``right`` are the spellings of the right answer."""
    return PROMPT.format(prompt=prompt.strip(), right=" or ".join(right), answer=answer)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's reply; ``right`` is None where it says neither yes nor no."""

    right: bool | None
    reply: str = ""  # empty where the judge was not asked

    @classmethod
    def of(cls, reply: str) -> Verdict:
        """The verdict of a reply whose first word is "yes" or "no", and which does not say the other one too."""
        found = [word for word in words(reply.rpartition(_THOUGHT)[2].casefold()) if word.isalpha()]
        said = _VERDICTS.keys() & found
        return cls(_VERDICTS[found[0]] if len(said) == 1 and found[0] in said else None, reply)
