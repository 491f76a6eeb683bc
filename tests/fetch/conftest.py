"""A local server, and a cache, an index and a hub that are this test's own."""

import os

import pytest

from editbench.fetch import download as downloading
from tests.fetch.server import NOWHERE, serving


@pytest.fixture
def server():
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "PAUSE", 0.0)
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"{NOWHERE}/simple")
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.setenv("EDITBENCH_CACHE", str(tmp_path / "cache"))
