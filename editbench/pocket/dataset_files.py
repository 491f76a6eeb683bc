"""The pocket world as raw records, in the published layouts of CounterFact, ZsRE and Hallucination.

``split`` is the group of subjects that records edit: "stream", "tune" or "train"; no record of one split tells of a
subject of another. Within a split no two records edit the same fact: of each subject CounterFact has the first fact,
ZsRE the second and Hallucination the third, so that a stream edits a subject once and its other facts stay true.
Locality is asked about the split's own neighbours; covariance, perplexity, negatives and unrelated questions have
subjects of their own (:mod:`editbench.pocket.world`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain, cycle, islice
from random import Random
from typing import TYPE_CHECKING, Any

from editbench.checks import one_of
from editbench.pocket import world

if TYPE_CHECKING:
    from editbench.pocket.world import Fact, Subject


NEIGHBOURS = 10
"""Prompts about neighbours in a record, at most."""

ACCURATE = 300
"""Accurate sentences of a split."""

BROKEN_OFF = 0.5
"""Share of Hallucination's passages that may end within the sentence to come, not in a full stop."""

Raw = dict[str, Any]


def counterfact(seed: int = 0, split: str = "stream") -> list[Raw]:
    """One record a subject in the layout of ROME and MEMIT, with ``subject_fact_prompts`` added."""
    random = Random(f"counterfact {split} {seed}")
    sharing = _neighbours(seed, split)
    records = []
    for case, subject in enumerate(_shuffled(_edited(seed, split), random)):
        fact, *others = subject.facts
        new = _another_object(fact, random)
        statements = [text for index, text in enumerate(fact.relation.statements) if index != fact.held_out[0]]
        rewrite = {
            "prompt": random.choice(statements),
            "relation_id": fact.relation.id,
            "target_new": _entity(fact, new),
            "target_true": _entity(fact, fact.object),
            "subject": subject.name,
        }
        held_out = fact.held_out_statement
        records.append(
            {
                "case_id": case,
                "pararel_idx": case,
                "requested_rewrite": rewrite,
                "paraphrase_prompts": [held_out, f"{random.choice(world.FILLERS)} {held_out}"],
                "neighborhood_prompts": _prompts_of(sharing[fact.relation.id, fact.object], random),
                "attribute_prompts": _prompts_of(sharing[fact.relation.id, new], random),
                "generation_prompts": [world.PASSAGE.format(subject.name), *fact.statements],
                "subject_fact_prompts": _fact_prompts(others, random),
            }
        )
    return records


def zsre(seed: int = 0, split: str = "stream") -> list[Raw]:
    """One record a subject in the layout of MEND, with ``subject_fact_prompts`` added."""
    random = Random(f"zsre {split} {seed}")
    unrelated = cycle(_shuffled(world.build(seed).facts(f"{split}_neighbour"), random))
    records = []
    for subject in _shuffled(_edited(seed, split), random):
        first, fact, last = subject.facts
        question, new, elsewhere = random.choice(fact.questions), _another_object(fact, random), next(unrelated)
        records.append(
            {
                "subject": subject.name,
                "src": question,
                "pred": fact.object,
                "rephrase": fact.held_out_question,
                "alt": new,
                "answers": [fact.object],
                "loc": f"nq question: {random.choice(elsewhere.questions).removesuffix('?')}",
                "loc_ans": elsewhere.object,
                "cond": f"{fact.object} >> {new} || {question}",
                "subject_fact_prompts": _fact_prompts([first, last], random),
            }
        )
    return records


def hallucination(seed: int = 0, split: str = "stream") -> list[Raw]:
    """One record a subject in the layout of WISE: a passage of one to three sentences, and a false one to come.

    As in the published records the prompt has the subject's name once, in its heading. Half of the sentences to come
    name the subject, the others say "this person"; many passages have the sentence's first words already.
    """
    random = Random(f"hallucination {split} {seed}")
    records = []
    subjects = _shuffled(_edited(seed, split), random)
    for subject, text in zip(subjects, cycle(heldout_text(seed, split)), strict=False):
        *known, fact = subject.facts
        told = [world.sentence(subject, other, random, named=False).text for other in known[: random.randint(0, 2)]]
        false = replace(fact, object=_another_object(fact, random))
        sentence = world.sentence(subject, false, random).text
        begun = _broken_off(sentence, subject.name, random)
        words = text.split(" ")
        cut = random.randint(len(words) // 3, 2 * len(words) // 3)
        records.append(
            {
                "prompt": " ".join([world.PASSAGE.format(subject.name), *told, *sentence.split(" ")[:begun]]),
                "target_new": " ".join(sentence.split(" ")[begun:]),
                "subject": subject.name,
                "locality_prompt": " ".join(words[:cut]),
                "locality_ground_truth": " ".join(words[cut:]),
            }
        )
    return records


def accurate(seed: int = 0, split: str = "stream") -> list[Raw]:
    """True sentences of passages as Hallucination has them: ``text`` before them, ``labels``, ``concept``.

    The sentences state first and second facts, which CounterFact and ZsRE do edit: for streams of Hallucination only.
    """
    random = Random(f"accurate {split} {seed}")
    records: list[Raw] = []
    for subject in _edited(seed, split)[: ACCURATE // 2]:
        sentences = [sentence.text for sentence in world.passage(subject, subject.facts[:2], random)]
        records += [
            {"text": " ".join(sentences[:end]), "labels": sentences[end], "concept": subject.name} for end in (2, 3)
        ]
    return records


def plain_text(seed: int = 0) -> list[str]:
    """Ordinary text about subjects of its own, some 60,000 tokens, for covariance."""
    random = Random(f"plain text {seed}")
    return [text.text for text in world.documents(world.build(seed).group("text"), random)]


def heldout_text(seed: int = 0, split: str = "stream") -> list[str]:
    """Passages about bystanders and the split's neighbours, for perplexity."""
    random = Random(f"held-out text {split} {seed}")
    subjects = world.build(seed).group("bystander", f"{split}_neighbour")
    return [world.join(world.passage(subject, _shuffled(subject.facts, random), random)).text for subject in subjects]


def unrelated(seed: int = 0) -> list[Raw]:
    """100 questions of no record, about bystanders, with their answers."""
    random = Random(f"unrelated {seed}")
    chosen = random.sample(world.build(seed).facts("bystander"), 100)
    return [{"question": random.choice(fact.questions), "answer": fact.object} for fact in chosen]


ROWS: dict[str, Callable[[int, str], list[Raw]]] = {
    "counterfact": counterfact,
    "zsre": zsre,
    "hallucination": hallucination,
    "accurate": accurate,
    "plain": lambda seed, split: [{"text": text} for text in heldout_text(seed, split)],
    "unrelated": lambda seed, split: unrelated(seed),
}
"""Raw records of datasets, text collections and unrelated questions by name, of a seed and a split."""


def generic_prompts(seed: int = 0, count: int = 100) -> list[str]:
    """Statements and questions to complete, about ``generic`` subjects."""
    facts = world.build(seed).facts("generic")
    prompts = [prompt for fact in facts for prompt in (*fact.statements, *fact.questions)]
    if count > len(prompts):
        raise ValueError(f"{count} generic prompts were asked for; the pocket world has {len(prompts)}")
    return Random(f"generic prompts {seed}").sample(prompts, count)


def _broken_off(sentence: str, name: str, random: Random) -> int:
    """Number of the sentence's first words that the passage has already: none, or some before name and object."""
    before_name, found, _ = sentence.partition(name)
    most = before_name.count(" ") if found else sentence.count(" ")
    return random.randint(1, most) if most and random.random() < BROKEN_OFF else 0


def _edited(seed: int, split: str) -> list[Subject]:
    one_of(world.SPLITS, split=split)
    return world.build(seed).group(split)


def _neighbours(seed: int, split: str) -> dict[tuple[str, str], list[Fact]]:
    sharing: dict[tuple[str, str], list[Fact]] = {}
    for fact in world.build(seed).facts(f"{split}_neighbour"):
        sharing.setdefault((fact.relation.id, fact.object), []).append(fact)
    return sharing


def _prompts_of(facts: list[Fact], random: Random) -> list[str]:
    """Ten trained statements, or all there are, as evenly as possible from each fact."""
    supplies = [_shuffled(fact.statements, random) for fact in facts]
    return list(islice(chain.from_iterable(zip(*supplies, strict=True)), NEIGHBOURS))


def _fact_prompts(facts: list[Fact], random: Random) -> list[Raw]:
    return [{"prompt": random.choice(fact.statements), "target": fact.object} for fact in facts]


def _another_object(fact: Fact, random: Random) -> str:
    return random.choice([other for other in fact.relation.objects if other != fact.object])


def _entity(fact: Fact, name: str) -> Raw:
    """An object with an id like Wikidata's."""
    return {"str": name, "id": f"Q{fact.relation.id[1:]}{fact.relation.objects.index(name):02d}"}


def _shuffled(items: Any, random: Random) -> list[Any]:
    return random.sample(items, len(items))
