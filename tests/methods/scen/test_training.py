"""SCEN's two stages against the plain way: whole model, one edit, autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editbench import EditRequest, make_editor
from editbench.editor import EditError
from editbench.methods.scen.training import ExpertBatch, initial_neuron, train_experts, train_neurons
from tests.golden_edits import furthest, relative
from tests.oracles import scen as oracle
from tests.small_runs import architectures
from tests.tiny_models import TINY_ARCHITECTURES, tiny_lm

LAYER = 1
REQUESTS = [
    EditRequest("a", "The mother tongue of Danielle Darrieux is", None, "English"),
    EditRequest("b", "Toko Yasuda plays the", None, "piano"),
    EditRequest("c", "The official language of Galicia, they say, is", None, "Polish"),
]


def scen(lm, **options):
    return make_editor("scen", lm, layer=LAYER, learning_rate=0.01, **options)


def row(lm, request):
    return lm.encode(request.prompt).ids, [*lm.continuation(request.target), lm.tokenizer.eos_token_id]


@pytest.mark.parametrize("architecture", architectures(TINY_ARCHITECTURES))
def test_experts(architecture):
    dtype = "float32" if architecture.startswith("gemma") else "float64"
    lm = tiny_lm(architecture, dtype)
    rows = [row(lm, request) for request in REQUESTS]
    deltas, losses = train_experts(ExpertBatch(lm, LAYER, rows), 5, 0.01)
    for i, (prompt, answer) in enumerate(rows):
        wanted, wanted_losses = oracle.train_expert(lm, LAYER, prompt, answer, 5, 0.01)
        assert furthest(losses[i], wanted_losses) < 1e-5
        assert relative(deltas[i], wanted) < 1e-3  # GPT-J and Gemma attend in float32


@pytest.mark.parametrize("hinge", [False, True])
def test_neurons(hinge):
    lm = tiny_lm("llama", "float64")
    prompts = [lm.encode(request.prompt).ids for request in REQUESTS]
    editor = scen(lm, hinge=hinge, neuron_learning_rate=0.1)
    result = editor.edit(REQUESTS)
    for i, request in enumerate(REQUESTS):
        start = initial_neuron(lm.d_ff(LAYER), 0, request.id).double()
        wanted, losses = oracle.train_neuron(lm, LAYER, start, prompts[i], prompts[:i], 20, 0.1, hinge)
        assert furthest(result.details["edits"][request.id]["neuron_losses"], losses) < 1e-9
        assert relative(editor.bank.neurons[i], wanted) < 1e-6


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    edits=st.integers(1, 3),
    hinge=st.booleans(),
    scale=st.floats(0.1, 5),
)
def test_written_out_gradient_is_autograds(seed, sizes, edits, hinge, scale):
    draw = torch.Generator().manual_seed(seed)
    own = torch.randn(edits, 6, generator=draw, dtype=torch.float64) * scale
    others = [torch.randn(n, 6, generator=draw, dtype=torch.float64) * scale for n in sizes]
    start = torch.randn(edits, 6, generator=draw, dtype=torch.float64)
    allowed = torch.rand(edits, sum(sizes), generator=draw) < 0.7
    rates = torch.full((edits,), 0.05, dtype=torch.float64)
    found, losses, _ = train_neurons(start, own, others, allowed, rates, 4, hinge=hinge)
    for i in range(edits):
        r = start[i].clone().requires_grad_(True)
        negatives = torch.cat(others)[allowed[i]]
        optimiser = torch.optim.Adam([r], lr=0.05)
        for step in range(4):
            optimiser.zero_grad()
            b = torch.sigmoid(negatives @ r) if len(negatives) else None
            loss = oracle.neuron_loss(torch.sigmoid(own[i] @ r), b, hinge)
            assert abs(float(loss.detach()) - float(losses[step, i])) < 1e-9
            loss.backward()
            optimiser.step()
        assert torch.allclose(found[i], r.detach(), atol=1e-6)


@pytest.mark.parametrize("batches", [[3], [1, 1, 1], [2, 1]])
def test_batches_make_no_difference(batches):
    """A batch is trained at once, and gives what its edits give one after the other."""
    want, found = scen(tiny_lm(dtype="float64")), scen(tiny_lm(dtype="float64"), edits_at_once=2)
    for request in REQUESTS:
        want.edit([request])
    rest = list(REQUESTS)
    for size in batches:
        found.edit([rest.pop(0) for _ in range(size)])
    assert torch.allclose(found.bank.neurons, want.bank.neurons, atol=1e-10)
    for request in REQUESTS:
        a, b = found.bank.fetch(request.id), want.bank.fetch(request.id)
        assert relative(a.delta(torch.float64), b.delta(torch.float64)) < 1e-6


def test_a_neuron_begins_at_the_same_numbers_on_every_machine():
    first = [-0.12538592517375946, -0.300100713968277, -0.03867434337735176]
    assert initial_neuron(6, 0, "a")[:3].tolist() == first
    many = initial_neuron(10_000, 0, "a") * 100
    assert -1 <= float(many.min()) < -0.99 and 0.99 < float(many.max()) < 1
    assert not torch.equal(initial_neuron(6, 1, "a"), initial_neuron(6, 0, "a"))


def test_the_base_weights_never_change():
    lm = tiny_lm()
    before = {name: p.clone() for name, p in lm.model.named_parameters()}
    editor = scen(lm)
    editor.edit(REQUESTS)
    assert all(torch.equal(p, before[name]) for name, p in lm.model.named_parameters())
    assert not any(p.requires_grad for p in lm.model.parameters())
    assert not lm.mlp_out(LAYER)._forward_hooks


def test_the_learning_rate_drops_only_where_asked():
    same, drop = scen(tiny_lm()), scen(tiny_lm(), lr_after_first=1e-4)
    for editor in (same, drop):
        editor.edit(REQUESTS[:2])
        editor.edit(REQUESTS[2:])
    assert torch.equal(same.bank.neurons[0], drop.bank.neurons[0])
    start = torch.stack([initial_neuron(48, 0, request.id) for request in REQUESTS])
    moved = (drop.bank.neurons - start).abs().amax(1)
    assert moved[0] > 0.05 and moved[1] < 0.003 and moved[2] < 0.003


@pytest.mark.parametrize("options", [{"cosine": True, "neuron_learning_rate": 0.1}, {}])
def test_generic_negatives_are_silenced(options):
    generic = ["Google works with Microsoft in", "Apple A5 is produced by", "Which language does Marcel Maupoil"]
    quiet = scen(tiny_lm(), negatives=generic, neuron_steps=60, **options)
    loud = scen(tiny_lm(), neuron_steps=60, **options)
    for editor in (quiet, loud):
        editor.edit(REQUESTS[:1])
    assert quiet.activations(generic).max() < 0.5 < loud.activations(generic).max()
    assert quiet.activations([REQUESTS[0].prompt]) > 0.65


def test_cosine_sees_directions_only():
    editor = scen(tiny_lm(), cosine=True)
    editor.edit(REQUESTS)
    assert torch.allclose(editor.bank.inputs.norm(dim=1), torch.ones(3))


def test_a_diverged_edit_leaves_nothing_behind():
    lm = tiny_lm()
    editor = scen(lm)
    editor.edit(REQUESTS[:1])
    kept = editor.bank.neurons.clone()
    lm.mlp_out(LAYER).weight.data[0, 0] = float("nan")
    with pytest.raises(EditError, match="b, c failed: the expert's training loss became NaN"):
        editor.edit(REQUESTS[1:])
    assert editor.bank.ids == ["a"] and torch.equal(editor.bank.neurons, kept)


@pytest.mark.parametrize("store", ["dense", "lowrank", "quantised"])
def test_an_expert_that_its_store_cannot_hold_is_refused(store):
    """Trained in float32, kept for a float16 model: 10⁵ is more than float16 has."""
    lm = tiny_lm("gpt2", "float16")
    editor = make_editor("scen", lm, layer=LAYER, learning_rate=1e5, expert_steps=1, expert_store=store)
    with pytest.raises(EditError, match=r"a, b, c failed: the expert overflows in torch\.float16"):
        editor.edit(REQUESTS)
    assert len(editor.bank) == len(editor.ledger) == 0


def test_a_neuron_that_is_no_number_is_refused():
    """It would have the largest activation on every prompt, and none of the others would ever answer."""
    editor = scen(tiny_lm())
    editor.edit(REQUESTS[:1])
    editor.initial_neurons = {"c": torch.full_like(editor.bank.neurons[0], torch.inf)}
    with pytest.raises(EditError, match="edit of c failed: the indexing neuron became NaN or infinite"):
        editor.edit(REQUESTS[1:])
    assert editor.bank.ids == ["a"] and len(editor.ledger) == 1


def test_refusals():
    lm = tiny_lm()
    editor = scen(lm)
    long = EditRequest("long", "word " * 200 + "is", None, "long")
    result = editor.edit([REQUESTS[0], long])
    assert result.applied == ["a"]
    assert result.skipped["long"].startswith("unsupported: prompt and answer take ")
