"""Revisions: edits of a stream that correct an earlier edit of it again, with the same prompt and another target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from editbench.records import EARLIER_EDIT, ORIGINAL, PARAPHRASE, EditRecord, Probe
from editbench.words import folded

_ROUNDING = 1e-9  # 0.29 * 100 is a little less than 29


def with_revisions(records: Sequence[EditRecord], share: float, batch_size: int, seed: int) -> tuple[EditRecord, ...]:
    """A stream of as many edits as ``records``: its first ones in their order, and revisions between them.

    After n edits there are n · ``share`` revisions (rounded down), or fewer as long as no edit can be revised. A
    revised edit stands in an earlier batch, and is revised once. The new target is that of another edit so far of the
    same relation, or of any other where the data names none; it is neither the edit's target nor the original answer.
    All draws depend on the seed and on the stream so far, so that a longer stream begins with a shorter one.

    A ValueError names a revision whose id another edit of the stream has.
    """
    made: list[EditRecord] = []
    originals = iter(records)
    open_, waiting = list[EditRecord](), list[EditRecord]()  # edits to revise: of earlier batches, and of this one
    targets: dict[str | None, dict[str, str]] = {}  # of the edits so far, by relation and by folded text
    revised = 0
    for at in range(len(records)):
        if at % batch_size == 0:
            open_, waiting = open_ + waiting, []
        revision = None
        if int((at + 1) * share + _ROUNDING) > revised:
            revision = _draw(open_, targets, Random(f"editbench-revision-{seed}-{at}"))
        if revision is not None:
            revised += 1
            made.append(revision)
            continue
        record = next(originals)
        made.append(record)
        waiting.append(record)
        targets.setdefault(record.relation, {}).setdefault(folded(record.request.target), record.request.target)
    _refuse_shared_ids(made)
    return tuple(made)


def _refuse_shared_ids(made: Sequence[EditRecord]) -> None:
    given = {record.id for record in made if record.revises is None}
    for record in made:
        if record.revises is not None and record.id in given:
            raise ValueError(
                f"stream.revisions: the revision of the record {record.revises!r} has the id {record.id!r}, and so has "
                "a record of the data; rename that one, or leave out stream.revisions"
            )


def _draw(open_: list[EditRecord], targets: dict[str | None, dict[str, str]], random: Random) -> EditRecord | None:
    """A revision of one of the open edits, which it leaves; None if there is no other target for any."""
    rest = list(open_)
    while rest:
        record = rest.pop(int(random.random() * len(rest)))
        request = record.request
        known = {folded(answer) for answer in (request.target, request.target_true) if answer is not None}
        others = [target for key, target in targets[record.relation].items() if key not in known]
        if others:
            open_.remove(record)
            return revision_of(record, others[int(random.random() * len(others))])
    return None


def revision_of(record: EditRecord, target: str) -> EditRecord:
    """The revision of an edit by another target: its probes also ask whether the earlier answers return.

    Texts about the earlier target are no references for free text any more.
    """
    old = record.request
    request = replace(old, id=f"{old.id} revised", target=target)
    probes = [replace(p, target=target) if p.kind == PARAPHRASE else p for p in record.probes]
    probes.append(Probe(EARLIER_EDIT, old.prompt, old.target))
    if old.target_true is not None:
        probes.append(Probe(ORIGINAL, old.prompt, old.target_true))
    free_text = replace(record.free_text, references=()) if record.free_text is not None else None
    return replace(record, request=request, probes=tuple(probes), free_text=free_text, revises=old.id)
