"""Every setting in which rows differ is a label, unless another label implies it."""

import json

from editbench.results.labels import label_value, labels_of, titles_of

USUAL = ["method", "model", "dataset", "edits"]


def row(**facts):
    parts = {"method": "rome", "stream.sample": "first", "model.hash": "m", **facts.pop("parts", {})}
    plain = {"method": "rome", "model": "tiny", "dataset": "zsre", "edits": 4, "protocol": "default", "batch_size": 1}
    return {**plain, "seed": 0, "mode": "sequential", "parts": json.dumps(parts), **facts}


def test_rows_that_differ_in_nothing_have_the_usual_labels():
    assert labels_of([row(), row()]) == USUAL
    assert labels_of([row(), row()], ["hparams"]) == [*USUAL, "hparams"]
    assert labels_of([row(mode="single")]) == [*USUAL, "mode"]


def test_columns_and_parts_that_differ_are_labels():
    rows = [row(), row(seed=1, batch_size=2, protocol="nse", parts={"stream.sample": "random", "torch": "2.6"})]
    labels = labels_of(rows)
    assert labels == [*USUAL, "protocol", "batch_size", "stream.sample", "torch", "seed"]
    assert titles_of(labels)[-3:] == ["sample", "torch", "seed"]
    assert [label_value(one, "stream.sample") for one in rows] == ["first", "random"]
    assert [label_value(one, "batch_size") for one in rows] == [1, 2]


def test_what_another_label_implies_is_none():
    assert labels_of([row(), row(model="other", parts={"model.hash": "o"})]) == USUAL
    assert labels_of([row(), row(parts={"model.hash": "o"})]) == [*USUAL, "model.hash"]
    assert labels_of([row(), row(method="memit", parts={"versions.multi_layer": 2, "method.layers": [1]})]) == USUAL
    assert labels_of([row(parts={"versions.x": 1}), row(parts={"versions.x": 2})]) == [*USUAL, "versions.x"]


def test_titles_that_end_alike_are_whole_and_long_values_are_cut():
    assert titles_of(["edits", "model.texts", "protocol.texts"]) == ["edits", "model.texts", "protocol.texts"]
    assert label_value(row(parts={"model.texts": "x" * 30}), "model.texts") == "x" * 23 + "…"
    assert label_value({"parts": None}, "model.texts") is None
