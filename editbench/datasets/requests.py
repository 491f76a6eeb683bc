"""Edit requests as other tools write them (EasyEdit, KnowEdit, ROME's notebook): one reader of their many spellings.

Locality and portability are lists of objects, objects of named lists, objects with parallel lists, objects of prompts
with their answers, or flat fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from editbench.datasets.base import Item, Settings, edit_record
from editbench.datasets.rows import Row
from editbench.records import ALIAS, MULTI_HOP, PORTABILITY, REASONING

PROMPTS = ("prompt", "question", "loc", "New Question")
ANSWERS = ("target", "ground_truth", "answer", "loc_ans", "New Answer", "answers")
OPTIONAL = (
    *("subject", "ground_truth", "target_true", "target_old", "rephrase", "rephrase_prompt", "paraphrases"),
    *("paraphrase_prompts", "locality", "locality_prompt", "locality_ground_truth", "neighborhood_prompts"),
    *("portability", "portability_prompt", "portability_ground_truth", "generation_prompts", "snippets"),
    "subject_fact_prompts",
)
"""Fields of a request that are read where they are there."""

OTHER_FACTS = ("relation specificity", "forgetfulness")
"""KnowEdit's groups of locality: all ask about the edited subject."""

Answered = tuple[str, list[str]]
"""Prompt, right answers."""
Asked = tuple[str, str, list[str]]
"""Name of a group ("" without), prompt, right answers."""


def request_items(row: Row, settings: Settings) -> Iterator[Item]:
    """The record of a request: ``prompt`` and ``target_new``, a text, a list of spellings or ``{str}``."""
    true = first_answers(row, "ground_truth", "target_true", "target_old")
    flat = zip_answers(row, "locality_prompt", "locality_ground_truth")
    near = [(prompt, true[:1]) for prompt in row.several("neighborhood_prompts")]
    locality, facts = unchanged(row)
    yield edit_record(
        row,
        prompt=row.text("prompt"),
        subject=row.text("subject") if row.filled("subject") else None,
        target=first_answers(row, "target_new") or row.right("target_new"),
        target_true=true,
        paraphrases=[
            text
            for name in ("rephrase_prompt", "rephrase", "paraphrase_prompts", "paraphrases")
            for text in row.several(name)
        ],
        locality=[*flat, *near, *locality],
        subject_facts=facts,
        follows=portability(row),
    )


def unchanged(row: Row) -> tuple[list[Answered], list[Answered]]:
    """Prompts and answers of the row's locality: of other subjects, and other facts of the edited one."""
    every = [(_plain(group) in OTHER_FACTS, (prompt, right)) for group, prompt, right in asked(row, "locality")]
    return [one for own, one in every if not own], [one for own, one in every if own]


def portability(row: Row) -> list[Asked]:
    """Kinds, prompts and answers of the row's portability."""
    flat = [(PORTABILITY, *pair) for pair in zip_answers(row, "portability_prompt", "portability_ground_truth")]
    return [*flat, *((kind_of(group), prompt, right) for group, prompt, right in asked(row, "portability"))]


def kind_of(group: str) -> str:
    """Kind of the probes of a group of portability ("Subject_Aliasing"); any other consequence is PORTABILITY."""
    name = _plain(group)
    if "alias" in name:
        return ALIAS
    if "reason" in name or "one hop" in name or "new question" in name:
        return REASONING
    return MULTI_HOP if "hop" in name else PORTABILITY


def first_answers(row: Row, *names: str) -> list[str]:
    """The answers in the first of these fields that holds any; a field may be an object ``{str}``."""
    for name in names:
        if row.filled(name):
            return [row.child(name).text("str")] if isinstance(row.value(name), dict) else row.several(name)
    return []


def asked(row: Row, name: str) -> list[Asked]:
    """Questions with their answers in a field, in any of its forms; none if it is absent."""
    if not row.filled(name):
        return []
    value = row.value(name)
    if isinstance(value, str):
        return [("", value, [])]
    if isinstance(value, list):
        return [("", *pair) for i in range(len(value)) for pair in _pairs(row, name, i)]
    group = row.child(name)
    if any(key in group.fields for key in PROMPTS):
        return [(_title(group), *pair) for pair in _of_object(group)]
    return [one for key in group.fields for one in _of_key(group, key)]


def _of_key(group: Row, key: str) -> list[Asked]:
    """Questions under a key, which names a group of them, or is a prompt with its answer: ``{"Rome is in": "Italy"}``.

    A prompt is no plain name, as "neighborhood" is. Texts in a list are a group's questions: as answers they would be
    the shorter ones, which are refused, since either may be meant.
    """
    value: Any = group.value(key) if group.filled(key) else None
    if value is None or (key.isascii() and key.isidentifier()):
        return [(key, prompt, right) for _, prompt, right in asked(group, key)]
    if not isinstance(value, (list, dict)):
        return [("", key, group.several(key))]
    if isinstance(value, list) and all(isinstance(one, str) and len(one) < len(key) for one in value):
        found = f"are {value} the answers to {key!r}, or questions of a group of this name?"
        raise group.error(key, f'{found} Write [{{"prompt": …, "target": …}}]')
    return [(key, prompt, right) for _, prompt, right in asked(group, key)]


def zip_answers(row: Row, prompts: str, answers: str) -> list[Answered]:
    """Prompts with their answers, of two fields: one prompt with its answers, or lists of the same length."""
    texts = row.several(prompts)
    given: Any = row.value(answers) if row.has(answers) else None
    if len(texts) <= 1:
        return [(text, row.several(answers)) for text in texts]
    if not isinstance(given, list) or len(given) != len(texts):
        if given is None:
            return [(text, []) for text in texts]
        raise row.error(answers, f"must be a list of {len(texts)} answers, one a prompt")
    return [(text, _texts(row, answers, [one])) for text, one in zip(texts, given, strict=True)]


def _texts(row: Row, name: str, value: Iterable[object]) -> list[str]:
    return Row(row.where, row.id, {name: list(value)}, row.path, row.read).several(name)


def _pairs(row: Row, name: str, index: int) -> list[Answered]:
    value: Any = row.value(name)
    if isinstance(value[index], str):
        return [(value[index], [])] if value[index].strip() else []
    return _of_object(row.children(name)[index])


def _of_object(one: Row) -> list[Answered]:
    prompt = next((key for key in PROMPTS if one.has(key)), PROMPTS[0])
    answer = next((key for key in ANSWERS if one.has(key)), ANSWERS[0])
    if not one.has(prompt):
        one.text(prompt)  # says what is missing
    return zip_answers(one, prompt, answer)


def _plain(group: str) -> str:
    return group.casefold().replace("_", " ")


def _title(group: Row) -> str:
    return "new question" if group.has("New Question") else ""
