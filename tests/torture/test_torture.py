"""A part of the torture: nothing is lost, nothing goes unnoticed. ``make torture`` tries everything."""

import pytest

from tests.torture.__main__ import sections
from tests.torture.outcomes import Ending, Outcome, Section, table
from tests.torture.small import Runs

SHORT, LONG = 4, 45  # seconds of a section
CROWD = "16 runs in one folder, while tables are made of it"  # is whole or not at all
TITLES = [section.title for section in sections(None)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    from editbench import checkpoint

    with pytest.MonkeyPatch.context() as patch:
        for name in ("MIN_INTERVAL", "MAX_SHARE"):
            patch.setattr(checkpoint, name, getattr(checkpoint, name))
        yield Runs(tmp_path_factory.mktemp("torture"))


def survives(runs, title, seconds):
    section = next(section for section in sections(runs) if section.title == title)
    section.run(seconds)
    assert section.counts.total() > 0
    assert [f"{bad.ending.value}: {bad.what}: {bad.said}" for bad in section.bad] == []


@pytest.mark.parametrize("title", [title for title in TITLES if title != CROWD])
def test_a_few_seconds_of_it(runs, title):
    survives(runs, title, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("title", TITLES)
def test_more_of_it(runs, title):
    survives(runs, title, LONG)


def test_the_table_counts_endings():
    section = Section("kills", lambda: iter([Outcome("a", Ending.SURVIVED), Outcome("b", Ending.SILENT, "why")]))
    section.run(10)
    assert table([section]).splitlines()[-1] == "| kills | 2 | 1 | 0 | 0 | 1 | yes |"
    assert [bad.what for bad in section.bad] == ["b"]
    section.run(-1)
    assert not Section("none", lambda: iter([Outcome("a", Ending.LOST)] * 2)).whole
