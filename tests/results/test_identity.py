"""Parts and their digests: which runs are seeds of one thing, which are comparable, and how differences are named."""

from __future__ import annotations

import json

from editbench.results.columns import mapping_in
from editbench.results.identity import (
    OWN,
    copies,
    differences,
    digest_or_own,
    identify,
    listed,
    look_alikes,
    part,
    schema_of,
    without,
)

PARTS = {"method": "rome", "method.layer": 5, "model.hash": "a", "torch": "2.0"}


def row(run, **parts):
    made = identify({**PARTS, **parts})
    more = {"identity": made["identity"], "comparable_group": made["comparable"], "parts": json.dumps(made["parts"])}
    return {"run": run, "status": "done", "method": "rome", "model": "tiny", **more}


def test_rivals_are_comparable_and_not_of_one_identity():
    one, other = identify(PARTS), identify({**PARTS, "method": "memit", "method.layer": 3, "torch": "2.1"})
    assert one["identity"] != other["identity"] and one["comparable"] == other["comparable"]
    assert identify({**PARTS, "model.hash": "b"})["comparable"] != one["comparable"]
    assert identify(PARTS) == one


def test_parts_go_by_their_prefix():
    assert without(PARTS, OWN) == {"model.hash": "a"}
    assert without({"methods": 1, "method.x": 2}, ["method"]) == {"methods": 1}


def test_differences_are_named_and_of_many_the_first_few():
    assert differences({"a": 1, "b": None}, {"a": 2}) == ["a is 1 and 2", "b is null and missing"]
    many = differences(dict.fromkeys("abcdefg", 1), {})
    assert listed(many).endswith("; and 2 more") and listed(many).count("missing") == 5
    assert differences({"a": "x" * 50}, {"a": "y"}) == [f'a is "{"x" * 23}… and "y"']


def test_a_long_value_is_a_part_by_its_digest():
    assert part("short") == "short" and part(["p" * 200]).startswith("sha256:")


def test_a_run_without_parts_is_alone():
    old = {"run": "a", "content_hash": "h", "identity": None, "parts": None, "schema": None}
    assert digest_or_own(old, "identity") == "alone: a h" and mapping_in(old, "parts") == {} and schema_of(old) == 1


def test_points_of_one_run_are_no_copies():
    point = {**row("a"), "content_hash": "x", "stream_hash": "s", "seed": 0}
    copy = {**point, "run": "b"}
    assert copies([{**point, "edits": 2}, {**point, "edits": 4}]) == []
    told = ["a and b have one stream and seed: copies are not averaged."]
    assert copies([{**one, "edits": edits} for one in (point, copy) for edits in (2, 4)]) == told  # once


def test_look_alikes_are_told_with_the_reason():
    assert look_alikes([row("a"), row("b")]) == []
    (sentence,) = look_alikes([row("a"), row("b", **{"model.hash": "b"})])
    assert sentence == 'a and b are neither averaged nor compared: model.hash is "a" and "b".'
    (sentence,) = look_alikes([row("a"), row("b", torch="2.1")])
    assert sentence == 'a and b are not averaged: torch is "2.0" and "2.1".'


def test_runs_of_one_stream_and_seed_or_with_equal_answers_are_copies():
    first = {**row("a"), "seed": 0, "stream_hash": "s0", "final_rows": "x"}
    second = {**row("b"), "seed": 1, "stream_hash": "s1", "final_rows": "y"}
    assert copies([first, second]) == []
    again = {**first, "run": "c", "final_rows": "z"}
    assert copies([first, second, again]) == ["a and c have one stream and seed: copies are not averaged."]
    relabelled = {**first, "run": "d", "seed": 2, "stream_hash": "s2"}
    assert copies([first, relabelled]) == [
        "a and d have equal final rows under different seeds: copies are not averaged."
    ]
    assert copies([first, {**again, "status": "failed"}]) == []
    assert copies([first, {**again, "identity": "another"}]) == []
