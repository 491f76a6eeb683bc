"""Stores of experts: their answers."""

import pytest

from tests.methods.scen.given_neurons import DENSE, IDS, REQUESTS, answers, scen


@pytest.mark.parametrize("store", ["lowrank", "quantised", "auto"])
def test_compressed_experts_answer_as_the_dense_ones(store):
    dense, small = scen(expert_steps=40), scen(expert_steps=40, expert_store=store)
    dense.edit(REQUESTS)
    result = small.edit(REQUESTS)
    assert answers(small) == answers(dense)
    assert small.footprint().host < dense.footprint().host
    if store == "auto":
        for id, facts in result.details["edits"].items():
            whole = dense.edit([r for r in REQUESTS if r.id == id]).details["edits"][id]
            assert facts["loss"] <= whole["loss"] + 0.05 and facts["bytes"] < DENSE


def test_auto_keeps_an_expert_dense_rather_than_change_its_answer():
    editor = scen(expert_store="auto", loss_margin=-1.0)  # no store can lower the loss by that
    assert editor.edit(REQUESTS[:2]).details["edits"][IDS[0]]["store"] == "dense"
