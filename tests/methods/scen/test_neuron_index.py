"""The index of neurons: grows in place, finds by id and prompt, and searches by blocks."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from editbench.memory_based import growing_rows
from editbench.methods.scen import neuron_index
from editbench.methods.scen.neuron_index import NeuronIndex, standing

SIZE = 5


def filled(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    neurons, inputs = torch.randn(2, count, SIZE, generator=generator)
    index = NeuronIndex(torch.empty(0, SIZE))
    for i in range(count):
        index.append(f"id {i}", f"prompt {i}", neurons[i], inputs[i])
    return index, neurons, inputs


@pytest.mark.parametrize("at", [0, 1, 30, 98, 99])
def test_deleting_a_row_keeps_the_others_in_order(at, monkeypatch):
    monkeypatch.setattr(growing_rows, "MOVE_ROWS", 7)
    index, neurons, inputs = filled(100)
    index.delete(f"id {at}")
    others = [i for i in range(100) if i != at]
    assert index.ids == [f"id {i}" for i in others] and index.prompts == [f"prompt {i}" for i in others]
    assert torch.equal(index.neurons, neurons[others]) and torch.equal(index.inputs, inputs[others])
    assert [index.position(id) for id in index.ids] == list(range(99))
    assert f"id {at}" not in index and index.replaced_by("", f"prompt {at}") == []
    index.append(f"id {at}", "another", neurons[0], inputs[0])
    assert index.position(f"id {at}") == 99 and index.replaced_by("", "another") == [f"id {at}"]


def test_what_an_expert_replaces_has_its_id_or_its_prompt():
    index, _, _ = filled(4)
    assert index.replaced_by("new", "new") == []
    assert index.replaced_by("id 1", "prompt 1") == ["id 1"]
    assert index.replaced_by("id 3", "prompt 2") == ["id 2", "id 3"] == index.replaced_by("id 2", "prompt 3")


@pytest.mark.parametrize("block", [1, 3, 4, 7, 100])
def test_a_search_by_blocks_finds_what_one_over_all_finds(block, monkeypatch):
    monkeypatch.setattr(neuron_index, "SEARCH_ROWS", block)
    index, neurons, _ = filled(20)
    neurons[11] = neurons[4]  # of equal ones the first counts
    index.neurons.copy_(neurons)
    x = torch.cat([neurons[4:5] * 100, torch.randn(6, SIZE, generator=torch.Generator().manual_seed(1))])
    products, places = index.best(x)
    wanted = x.double() @ neurons.double().T
    assert places.tolist() == wanted.max(dim=1).indices.tolist()
    assert torch.allclose(products.double(), wanted.max(dim=1).values)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("pqrs")), max_size=30))
def test_what_stands_is_what_is_left_when_all_are_added(names):
    index, replacements, at = NeuronIndex(torch.empty(0, 1)), {}, {}
    for place, (id, prompt) in enumerate(names):
        replaced = index.replaced_by(id, prompt)
        for old in replaced:
            index.delete(old)
        index.append(id, prompt, torch.zeros(1), torch.zeros(1))
        at[id] = place
        replacements.pop(id, None)
        replacements.update(dict.fromkeys(replaced, id))
    assert standing(names) == ([at[id] for id in index.ids], replacements)
