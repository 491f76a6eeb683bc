"""The pocket world as raw records, in the published layouts of CounterFact, ZsRE and Hallucination.

No two records edit the same fact: of each ``edited`` subject, CounterFact has the first fact, ZsRE the second and
Hallucination the third, so that a stream edits a subject once and its other facts stay true. Locality is asked about
``neighbour`` subjects; negatives are about ``generic`` subjects only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from random import Random
from typing import TYPE_CHECKING, Any

from editbench.pocket import world

if TYPE_CHECKING:
    from editbench.pocket.world import Fact, Subject


NEIGHBOURS = 10
HALLUCINATIONS = 150
PLAIN_TEXTS = 4_000

Raw = dict[str, Any]


def counterfact(seed: int = 0) -> list[Raw]:
    """300 records in the layout of ROME and MEMIT, with ``subject_fact_prompts`` added."""
    random = Random(f"counterfact {seed}")
    sharing = _neighbours(seed)
    records = []
    for case, subject in enumerate(_shuffled(world.build(seed).role("edited"), random)):
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


def zsre(seed: int = 0) -> list[Raw]:
    """300 records in the layout of MEND, with ``subject_fact_prompts`` added."""
    random = Random(f"zsre {seed}")
    unrelated = cycle(_shuffled(world.build(seed).facts("neighbour"), random))
    records = []
    for subject in _shuffled(world.build(seed).role("edited"), random):
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


def hallucination(seed: int = 0) -> list[Raw]:
    """150 records in the layout of WISE: a passage, and a false sentence as the next one."""
    random = Random(f"hallucination {seed}")
    records = []
    for subject, text in zip(_hallucinated(seed), heldout_text(seed), strict=False):
        *known, fact = subject.facts
        words = text.split(" ")
        records.append(
            {
                "prompt": world.join(world.passage(subject, known, random)).text,
                "target_new": f"{random.choice(fact.statements)} {_another_object(fact, random)}.",
                "subject": subject.name,
                "locality_prompt": " ".join(words[: len(words) // 2]),
                "locality_ground_truth": " ".join(words[len(words) // 2 :]),
            }
        )
    return records


def accurate(seed: int = 0) -> list[Raw]:
    """Sentences of the same passages that Hallucination does not edit: ``text`` before them, ``labels``, ``concept``.

    The sentences state first and second facts, which CounterFact and ZsRE do edit: for streams of Hallucination only.
    """
    random = Random(f"accurate {seed}")
    records = []
    for subject in _hallucinated(seed):
        sentences = [sentence.text for sentence in world.passage(subject, subject.facts[:2], random)]
        records += [
            {"text": " ".join(sentences[:end]), "labels": sentences[end], "concept": subject.name} for end in (2, 3)
        ]
    return records


def plain_text(seed: int = 0) -> list[str]:
    """Ordinary text about all subjects, some 60,000 tokens, for covariance; it states true facts only."""
    random = Random(f"plain text {seed}")
    return [text.text for text in world.documents(world.build(seed).subjects, random)[:PLAIN_TEXTS]]


def heldout_text(seed: int = 0) -> list[str]:
    """Passages about subjects that no record edits, some 10,000 tokens, for perplexity."""
    random = Random(f"held-out text {seed}")
    subjects = world.build(seed).role("neighbour", "generic")
    return [world.join(world.passage(subject, _shuffled(subject.facts, random), random)).text for subject in subjects]


def unrelated(seed: int = 0) -> list[Raw]:
    """100 questions of no record, about subjects that no record edits, with their answers."""
    random = Random(f"unrelated {seed}")
    chosen = random.sample(world.build(seed).facts("neighbour", "generic"), 100)
    return [{"question": random.choice(fact.questions), "answer": fact.object} for fact in chosen]


ROWS: dict[str, Callable[[int], list[Raw]]] = {
    "counterfact": counterfact,
    "zsre": zsre,
    "hallucination": hallucination,
    "accurate": accurate,
    "plain": lambda seed: [{"text": text} for text in heldout_text(seed)],
    "unrelated": unrelated,
}
"""Raw records of datasets, text collections and unrelated questions, by name."""


def generic_prompts(seed: int = 0, count: int = 100) -> list[str]:
    """Statements and questions to complete, about ``generic`` subjects."""
    facts = world.build(seed).facts("generic")
    prompts = [prompt for fact in facts for prompt in (*fact.statements, *fact.questions)]
    if count > len(prompts):
        raise ValueError(f"{count} generic prompts were asked for; the pocket world has {len(prompts)}")
    return Random(f"generic prompts {seed}").sample(prompts, count)


def _hallucinated(seed: int) -> list[Subject]:
    return world.build(seed).role("edited")[:HALLUCINATIONS]


def _neighbours(seed: int) -> dict[tuple[str, str], list[Fact]]:
    sharing: dict[tuple[str, str], list[Fact]] = {}
    for fact in world.build(seed).facts("neighbour"):
        sharing.setdefault((fact.relation.id, fact.object), []).append(fact)
    return sharing


def _prompts_of(facts: list[Fact], random: Random) -> list[str]:
    """Ten trained statements, as evenly as possible from each fact."""
    supplies: list[Iterator[str]] = [iter(_shuffled(fact.statements, random)) for fact in facts]
    return [next(supply) for supply in islice(cycle(supplies), NEIGHBOURS)]


def _fact_prompts(facts: list[Fact], random: Random) -> list[Raw]:
    return [{"prompt": random.choice(fact.statements), "target": fact.object} for fact in facts]


def _another_object(fact: Fact, random: Random) -> str:
    return random.choice([other for other in fact.relation.objects if other != fact.object])


def _entity(fact: Fact, name: str) -> Raw:
    """An object with an id like Wikidata's."""
    return {"str": name, "id": f"Q{fact.relation.id[1:]}{fact.relation.objects.index(name):02d}"}


def _shuffled(items: Any, random: Random) -> list[Any]:
    return random.sample(items, len(items))
