"""Two principal components of hidden states: of both parts together, with their share of the variance."""

import json

import numpy as np
import pytest
import torch

from editbench.files import write_tensors
from editbench.results.leaderboard import collect_folders
from editbench.results.report.hidden_shift import shift_of
from editbench.results.report.page import write_report
from editbench.results.schema import HIDDEN_SHIFT_FILE
from tests.results.runs import write_run


def keep(folder, before, after):
    states = {"before": torch.tensor(before, dtype=torch.float32), "after": torch.tensor(after, dtype=torch.float32)}
    write_tensors(folder / HIDDEN_SHIFT_FILE, states, {"layer": 3})


def test_states_in_a_plane_keep_their_distances(tmp_path):
    generator = np.random.default_rng(0)
    plane, _ = np.linalg.qr(generator.normal(size=(6, 2)))
    flat = generator.normal(size=(8, 2)) * [3, 1]
    states = flat @ plane.T
    keep(tmp_path, states[:5], states[5:])
    found = shift_of(tmp_path)
    places = np.concatenate([np.array(found["before"]).T, np.array(found["after"]).T])
    assert (found["layer"], len(found["before"][0]), len(found["after"][1])) == (3, 5, 3)
    assert sum(found["shares"]) == pytest.approx(1, abs=1e-3) and found["shares"][0] > found["shares"][1]
    for i in range(8):
        for j in range(8):
            assert np.linalg.norm(places[i] - places[j]) == pytest.approx(np.linalg.norm(flat[i] - flat[j]), abs=1e-3)


def test_nothing_is_drawn_without_states_or_of_bad_ones(tmp_path):
    assert shift_of(tmp_path) is None
    keep(tmp_path, [[float("nan"), 0.0]], [[1.0, 2.0]])
    assert shift_of(tmp_path) is None
    (tmp_path / HIDDEN_SHIFT_FILE).write_bytes(b"torn")
    assert shift_of(tmp_path) is None


def test_the_page_has_them(tmp_path):
    pytest.importorskip("plotly")
    keep(write_run(tmp_path, "a"), [[0.0, 1.0], [2.0, 0.0]], [[1.0, 1.0], [2.0, 2.0]])
    write_run(tmp_path, "b", seed=1)
    write_report(collect_folders(tmp_path), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    data = json.loads(page.split('id="data">', 1)[1].split("</script>", 1)[0])
    shifts = {run["cells"]["run"]: run["shift"] for run in data["runs"]}
    assert shifts["b"] is None and shifts["a"]["layer"] == 3 and len(shifts["a"]["after"][0]) == 2
    assert 'id="shift-chart"' in page
