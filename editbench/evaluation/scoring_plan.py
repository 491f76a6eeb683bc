"""Which records of a stream are scored, and when: by the protocol's stages and samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from editbench.evaluation.questions import questions

if TYPE_CHECKING:
    from editbench.config import ProtocolConfig
    from editbench.records import EditRecord
    from editbench.stream import Stream


@dataclass(frozen=True)
class ScoringPlan:
    """The plan of one run; ``seed`` draws the samples."""

    stream: Stream
    protocol: ProtocolConfig
    seed: int

    @property
    def right_after(self) -> bool:
        """Whether every record is scored right after its own edit."""
        return self.stream.single or "immediate" in self.protocol.stages

    @property
    def at_the_end(self) -> bool:
        """Whether records are scored after the last edit."""
        return not self.stream.single and "final" in self.protocol.stages

    def records_at_point(self, edits: int) -> tuple[EditRecord, ...]:
        """Records scored at an evaluation point, after ``edits`` edits, in stream order."""
        return self.stream.sample(edits, self.protocol.retention_sample, self.seed)

    def records_at_the_end(self, edits: int) -> tuple[EditRecord, ...]:
        """Records scored after the last of ``edits`` edits, in stream order; fewer edits have no others."""
        return self.stream.records[:edits][: self.protocol.final_first]

    def most_answers(self, unrelated: int) -> int:
        """Answers with a known right answer that the run scores, at most; ``unrelated`` are questions of no record."""
        points = [point.edits for point in self.stream.evaluation_points]
        scored = [self.records_at_point(edits) for edits in points]
        if self.right_after:
            scored.append(self.stream.records)
        if self.at_the_end:
            scored.append(self.records_at_the_end(len(self.stream)))
        times = 1 + len(points) + self.at_the_end  # before the first edit too
        return unrelated * times + sum(self._labelled(record) for records in scored for record in records)

    def _labelled(self, record: EditRecord) -> int:
        """Questions with a right answer of a record, or of the one that revises it if these are more."""
        both = filter(None, (record, self.stream.revisions.get(record.id)))
        return max(sum(question.labelled for question in questions(one)) for one in both)

    def asked(self) -> tuple[EditRecord, ...]:
        """All records whose questions the run asks, in stream order: those scored, and those that revise them."""
        if self.right_after:
            return self.stream.records
        ends = self.records_at_the_end(len(self.stream)) if self.at_the_end else ()
        samples = self.stream.ever_sampled(self.protocol.retention_sample, self.seed)
        ids = {record.id for record in (*ends, *samples)}
        ids |= {revision.id for edit, revision in self.stream.revisions.items() if edit in ids}
        return tuple(record for record in self.stream.records if record.id in ids)
