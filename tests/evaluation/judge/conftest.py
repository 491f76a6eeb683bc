"""An endpoint for tests of the judge."""

import pytest

from editbench.evaluation.judge import endpoint
from tests.evaluation.judge.server import serving


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(endpoint, "PAUSE", 0.01)
    with serving() as judge:
        yield judge
