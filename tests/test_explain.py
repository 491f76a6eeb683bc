"""Settings on the command line: in words, and a line each."""

from __future__ import annotations

import json

import pytest

from editbench import compose, conf_groups, explain


def test_top_level_settings_are_the_groups_and_the_schema_without_sections() -> None:
    plain = {name for name, node in compose.SCHEMA.items() if not isinstance(node, type)}
    sections = {name for name, node in compose.SCHEMA.items() if isinstance(node, type)}
    described = {setting.key for setting in explain.settings_of(explain.TopLevel)}
    assert described == {*conf_groups.GROUPS, *plain} and all(s.words for s in explain.settings_of(explain.TopLevel))
    assert sections - described == {"results", "precompute"}


def test_a_setting_of_several_methods_comes_once_for_each_declaration() -> None:
    found, _ = explain.explain("method.layers")
    by_class = {setting.declared.rpartition(".")[2]: of for setting, of in found}
    assert "memit" in by_class["LayersConfig"] and by_class["EMMETConfig"] == ["emmet"]


def test_a_setting_by_its_methods_name_with_its_value_in_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain.main(["memit.layers"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("method.layers\n  Edited layers, rising;")
    assert "default   [13, 14, 15, 16, 17]" in shown and "in a run  [0, 1, 2, 3] (method=memit model=pocket" in shown
    explain.main(["scen.bits", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert (facts["key"], facts["allowed"], facts["of"]) == ("method.bits", "8, 4 or 2", ["scen"])


@pytest.mark.parametrize(
    ("key", "near"), [("stream.edit", "stream.edits"), ("bits", "method.bits"), ("rome.lr", "method.learning_rate")]
)
def test_an_unknown_setting_names_the_nearest(key: str, near: str) -> None:
    with pytest.raises(ValueError, match=rf"unknown key .*; did you mean '{near}'"):
        explain.explain(key)


def test_help_has_one_line_for_every_key_of_a_run() -> None:
    overrides = compose.check(["method=scen", "dataset=zsre"]).only
    lines = explain.help_text(overrides).splitlines()
    shown = [line.split()[0].partition("=")[0] for line in lines if line.startswith("  ")]
    keys = [k for k in compose._keys(compose.compose_node(overrides)) if not k.endswith((".name", "headline"))]
    inside = ("protocol.", "model.architecture", "tracker.", "stream", "results", "precompute")
    assert [k for k in keys if k not in shown and not k.startswith(inside)] == []
    assert "scen" in next(line for line in lines if line.startswith("  method="))
