"""The workspace: what would be saved fits what the tracker sends."""

import json

import pytest

from editbench.results.columns import COLUMNS
from editbench.tracking import workspace
from tests.tracking.test_observer import HEADLINE, score, texts


def sent():
    """Names of all curves that a run can send."""
    from editbench.results.curves import LiveCurves

    curves, found = LiveCurves(HEADLINE), set()
    rows = [{**score(0, 1, stage, r=1.0, l=1.0)} for stage in ("immediate", "final")]
    for row in rows:
        row["scores"]["paraphrase.exact"] = 1.0
    model = [texts("plain", 1, perplexity=3.0), texts("drift", 1, weight_change=0.1, hidden_change=0.1)]
    for points in (curves.edit({"batch": 0, "ids": ["id0"], "seconds": 1.0}), curves.rows([*rows, *model])):
        found |= {name for values in points.values() for name in values}
    return found | {"cost/peak_rss_bytes", "cost/peak_cuda_bytes"}


def test_every_curve_is_one_that_runs_send():
    assert {metric for metrics in workspace.CURVES.values() for metric in metrics} <= sent()


def test_the_view_has_curves_over_edits_with_bands_and_runs_by_sweep(capsys):
    pytest.importorskip("wandb_workspaces")
    assert workspace.main(["--entity", "me", "--project", "edits", "--json"]) == 0
    view = json.loads(capsys.readouterr().out)
    assert (view["entity"], view["project"], view["displayName"]) == ("me", "edits", "editbench")
    *curves, records = view["spec"]["section"]["panelBankConfig"]["sections"][: len(workspace.CURVES) + 1]
    for section, metrics in zip(curves, workspace.CURVES.values(), strict=True):
        assert [panel["config"]["metrics"] for panel in section["panels"]] == [[metric] for metric in metrics]
        for panel in section["panels"]:
            band = [panel["config"][name] for name in ("xAxis", "groupBy", "groupAgg", "groupArea")]
            assert band == ["edits", "group", "mean", "minmax"]
    assert "records" in json.dumps(records["panels"])
    (runs,) = view["spec"]["section"]["runSets"]
    assert [(key["section"], key["name"]) for key in runs["grouping"]] == [("config", "sweep.value"), ("run", "group")]
    shown = [name.partition(":")[2] for name in runs["runFeed"]["columnOrder"] if name.startswith("summary:")]
    assert tuple(shown) == workspace.PINNED and set(shown) <= set(COLUMNS)


def test_mistakes_are_a_line(monkeypatch, capsys):
    assert workspace.main([]) == 1
    assert capsys.readouterr().err == "error: whose workspace? Give --entity USER_OR_TEAM, or set WANDB_ENTITY\n"
    monkeypatch.setattr("editbench.tracking.workspace.util.find_spec", lambda package: None)
    monkeypatch.setenv("WANDB_ENTITY", "me")
    assert workspace.main([]) == 1
    assert "pip install 'editbench[workspace]'" in capsys.readouterr().err


def test_a_service_that_fails_is_a_line(monkeypatch, capsys):
    class Refused(Exception):
        pass

    class View:
        def save(self):
            raise Refused("no such project")

    monkeypatch.setattr(workspace, "workspace", lambda *arguments: View())
    assert workspace.main(["--entity", "me"]) == 1
    assert capsys.readouterr().err == "error: the workspace was not saved (Refused: no such project)\n"
