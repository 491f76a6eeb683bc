"""The bank of experts: stores, places, files, damage, replacement, deletion, state."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editbench import EditRequest, make_editor
from editbench.methods.scen import compression
from editbench.methods.scen.training import prompt_inputs
from tests.golden_edits import relative
from tests.zoo import tiny_lm

LAYER = 1
SUBJECTS = ["Danielle Darrieux", "Toko Yasuda", "Marcel Maupoil", "Edwin", "Anaal Nathrakh", "Autonomous University"]
REQUESTS = [
    EditRequest(f"edit {i}/ü", f"The mother tongue of {subject} is", subject, target)
    for i, (subject, target) in enumerate(
        zip(SUBJECTS, ["English", "Polish", "Russian", "Italian", "French", "Spanish"], strict=True)
    )
]
IDS = [request.id for request in REQUESTS]
DENSE = 32 * 48 * 4  # bytes of an expert of the tiny model


def scen(lm=None, **options):
    """An editor whose neurons are as good as given, each for one prompt alone; its answers end by themselves."""
    defaults = {"layer": LAYER, "learning_rate": 0.02, "neuron_learning_rate": 1e-9, "train_eos": True}
    editor = make_editor("scen", lm or tiny_lm(), **(defaults | options))
    inputs = editor.inputs([request.prompt for request in REQUESTS])
    given = torch.linalg.pinv(inputs) @ (torch.eye(len(REQUESTS)) * 8 - 4)  # (d_ff, 6)
    editor.initial_neurons = dict(zip(IDS, given.T, strict=True))
    return editor


def answers(editor):
    return editor.generate([request.prompt for request in REQUESTS], max_new_tokens=4)


def logits(editor, prompt):
    ids = editor.lm.encode(prompt).ids
    with torch.no_grad(), editor.answering([len(ids) - 1]):
        return editor.lm.model(input_ids=torch.tensor([ids])).logits


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


# -- stores ------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 5),
    columns=st.integers(1, 19),
    bits=st.sampled_from([2, 4, 8]),
    zero=st.booleans(),
)
def test_quantised(seed, rows, columns, bits, zero):
    delta = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    delta[0] *= 0 if zero else 1e3
    packed = compression.quantised(delta, bits)
    assert packed.nbytes == compression.quantised_bytes(delta.shape, bits)
    error = (packed.delta(torch.float64) - delta).abs().amax(1)
    bound = delta.abs().amax(1) / (2**bits - 1)
    assert bool((error <= bound * (1 + 1e-6)).all())


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), tokens=st.integers(1, 7), error=st.sampled_from([0.0, 0.01, 0.2, 0.9]))
def test_lowrank(seed, tokens, error):
    draw = torch.Generator().manual_seed(seed)
    delta = torch.randn(9, 12, generator=draw, dtype=torch.float64).sign() * 0.01
    inputs = torch.randn(tokens, 12, generator=draw, dtype=torch.float64)
    packed = compression.low_rank(delta, inputs, error)
    rank = packed.parts["left"].shape[1]
    assert rank <= tokens and packed.nbytes == (9 + 12) * rank * 2
    wanted = inputs @ delta.T
    assert relative(inputs @ packed.delta(torch.float64).T, wanted) <= error + 2e-3  # float16
    if rank > 1:  # the smallest: the best map of one rank less is not near enough
        singular = torch.linalg.svdvals(wanted)
        assert singular[rank - 1 :].norm() > error * singular.norm()


def test_dense_is_exact():
    delta = torch.randn(5, 7)
    assert torch.equal(compression.dense(delta, torch.float32).delta(torch.float32), delta)
    assert compression.dense(delta, torch.bfloat16).nbytes == 5 * 7 * 2


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


# -- places ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "host", "places"),
    [
        (None, None, (6, 0)),
        (2 * DENSE, None, (2, 4)),
        (2 * DENSE, DENSE, (2, 1)),
        (0, 0, (0, 0)),
        (0, None, (0, 6)),
        (DENSE - 1, 3 * DENSE + 5, (0, 3)),
    ],
)
def test_budgets(tmp_path, device, host, places):
    editor, plain = scen(device_bytes=device, host_bytes=host, bank_directory=str(tmp_path)), scen()
    for one in (editor, plain):
        one.edit(REQUESTS)
    bank = editor.bank

    def check():
        assert (len(bank.device.experts), len(bank.host.experts)) == places
        assert bank.device.nbytes == places[0] * DENSE and bank.host.nbytes == places[1] * DENSE

    check()
    assert answers(editor) == answers(plain)
    for request in REQUESTS:
        assert torch.equal(logits(editor, request.prompt), logits(plain, request.prompt))
    check()
    assert same(editor.state(), plain.state())
    indices = 2 * 6 * 48 * 4
    assert editor.footprint().host == sum(places) * DENSE + indices
    assert editor.footprint().disk == sum(file.stat().st_size for file in tmp_path.iterdir())


def test_least_recently_used_goes_first(tmp_path):
    editor = scen(device_bytes=2 * DENSE, host_bytes=2 * DENSE, bank_directory=str(tmp_path))
    editor.edit(REQUESTS[:4])
    bank = editor.bank
    assert [list(store.experts) for store in (bank.device, bank.host)] == [IDS[2:4], IDS[0:2]]
    editor.bank.fetch(IDS[2])
    editor.bank.fetch(IDS[0])
    assert [list(store.experts) for store in (bank.device, bank.host)] == [[IDS[2], IDS[0]], [IDS[1], IDS[3]]]
    editor.edit(REQUESTS[4:5])
    assert [list(store.experts) for store in (bank.device, bank.host)] == [[IDS[0], IDS[4]], [IDS[3], IDS[2]]]


# -- files and damage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["dense", "lowrank", "quantised"])
def test_save_and_load(tmp_path, store):
    editor = scen(expert_store=store)
    editor.edit(REQUESTS)
    editor.bank.save(tmp_path / "bank")
    assert len(list((tmp_path / "bank").iterdir())) == 6
    other = scen()
    assert other.bank.load(tmp_path / "bank") == {}
    assert same(other.state(), editor.state()) and answers(other) == answers(editor)
    editor.delete(IDS[1])
    editor.bank.save(tmp_path / "bank")
    assert len(list((tmp_path / "bank").iterdir())) == 5


def test_the_folder_follows_edit_by_edit(tmp_path):
    editor = scen(bank_directory=str(tmp_path))
    for n, request in enumerate(REQUESTS[:3], start=1):
        editor.edit([request])
        assert len(list(tmp_path.iterdir())) == n
    editor.delete(IDS[0])
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert [name[:6] for name in kept] == ["000001", "000002"]
    again = scen(bank_directory=str(tmp_path), device_bytes=0, host_bytes=0)
    with pytest.raises(ValueError, match="already holds 2 experts that are not in this bank"):
        again.edit(REQUESTS[3:4])
    assert again.bank.ids == [] and again.bank.load(tmp_path) == {}
    again.edit(REQUESTS[3:4])
    assert again.bank.ids == IDS[1:4] and len(list(tmp_path.iterdir())) == 3


def damage(file, how):
    data = bytearray(file.read_bytes())
    if how == "cut":
        data = data[: len(data) // 2]
    elif how == "one bit":
        data[-5] ^= 4
    elif how == "header":
        data[:20] = b"x" * 20
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(bytes(data))


@pytest.mark.parametrize("how", ["cut", "one bit", "header", "empty"])
def test_a_damaged_file_loses_one_expert_at_load(tmp_path, how, caplog):
    editor = scen()
    editor.edit(REQUESTS)
    editor.bank.save(tmp_path)
    victim = sorted(tmp_path.iterdir())[2]
    damage(victim, how) if how != "empty" else victim.write_bytes(b"")
    other = scen()
    with caplog.at_level(logging.WARNING):
        lost = other.bank.load(tmp_path)
    assert list(lost) == [IDS[2]] and str(victim) in caplog.text and repr(IDS[2]) in caplog.text
    assert other.bank.ids == [id for id in IDS if id != IDS[2]]
    editor.delete(IDS[2])
    assert same(other.state(), editor.state())


@pytest.mark.parametrize("how", ["cut", "one bit", "gone"])
def test_a_file_damaged_while_in_use_loses_one_expert(tmp_path, how):
    editor = scen(bank_directory=str(tmp_path), device_bytes=0, host_bytes=0)
    editor.edit(REQUESTS[:3])
    undone = scen()
    undone.edit(REQUESTS[:3])
    undone.delete(IDS[1])
    damage(sorted(tmp_path.iterdir())[1], how)
    assert answers(editor) == answers(undone)
    assert list(editor.bank.lost) == [IDS[1]] and editor.bank.ids == [IDS[0], IDS[2]]
    assert same(editor.state(), undone.state())


def test_a_bank_of_another_weight_is_refused(tmp_path):
    editor = scen()
    editor.edit(REQUESTS[:1])
    editor.bank.save(tmp_path)
    with pytest.raises(ValueError, match="belongs to transformer.*; this bank's are for"):
        scen(layer=0).bank.load(tmp_path)
    with pytest.raises(ValueError, match="belongs to"):
        scen(layer=0).restore(editor.state())


# -- retire and replace ------------------------------------------------------------------------------------------------


def test_deleting_gives_the_unedited_answer_back():
    lm = tiny_lm()
    editor = scen(lm)
    ids = lm.encode(REQUESTS[0].prompt).ids
    with torch.no_grad():
        before = lm.model(input_ids=torch.tensor([ids])).logits
    editor.edit(REQUESTS[:1])
    assert not torch.equal(logits(editor, REQUESTS[0].prompt), before)
    assert editor.ledger.edited_ids == IDS[:1]
    editor.delete(IDS[0])
    assert editor.ledger.edited_ids == []
    assert torch.equal(logits(editor, REQUESTS[0].prompt), before)
    assert editor.footprint().host == 0 and len(editor.bank) == 0
    with pytest.raises(ValueError, match="holds no edit 'edit 0'"):
        editor.delete("edit 0")


def test_a_newer_edit_of_the_same_fact_replaces_the_older(tmp_path):
    editor = scen(bank_directory=str(tmp_path), expert_steps=60)
    editor.edit(REQUESTS[:3])
    newer = EditRequest("newer", REQUESTS[1].prompt, SUBJECTS[1], "Galician")
    editor.initial_neurons["newer"] = editor.initial_neurons[IDS[1]]
    result = editor.edit([newer])
    assert result.details["edits"]["newer"]["replaced"] == [IDS[1]]
    assert editor.bank.ids == [IDS[0], IDS[2], "newer"] and len(list(tmp_path.iterdir())) == 3
    assert editor.generate(newer.prompt, max_new_tokens=8)[0].strip() == "Galician"
    with pytest.raises(ValueError, match="cannot go back to edit 'edit 1"):
        editor.ledger.rollback(1)
    assert len(editor.ledger) == 2 and len(editor.bank) == 3
    same_id = EditRequest("newer", REQUESTS[4].prompt, SUBJECTS[4], "French")
    editor.edit([same_id, REQUESTS[5], REQUESTS[5]])
    assert editor.bank.ids == [IDS[0], IDS[2], "newer", IDS[5]]
    assert editor.bank.prompts[2] == REQUESTS[4].prompt


# -- state -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["dense", "auto", "quantised"])
@pytest.mark.parametrize("disk", [False, True])
def test_state_and_restore(tmp_path, store, disk):
    places = {"bank_directory": str(tmp_path), "device_bytes": DENSE, "host_bytes": 0} if disk else {}
    whole = scen(expert_store=store)
    whole.edit(REQUESTS[:3])
    half = scen(expert_store=store, **places)
    half.edit(REQUESTS[:3])
    state = {name: tensor.clone() for name, tensor in half.state().items()}
    half.edit(REQUESTS[3:5])  # what a crash takes
    resumed = scen(expert_store=store, **places)
    resumed.restore(state)
    for editor in (whole, resumed):
        editor.edit(REQUESTS[3:])
    assert same(whole.state(), resumed.state())
    assert answers(whole) == answers(resumed)
    if disk:
        assert len(list(tmp_path.iterdir())) == 6


def test_empty_and_foreign_states():
    editor = scen()
    empty = editor.state()
    editor.edit(REQUESTS[:2])
    editor.restore(empty)
    assert len(editor.bank) == 0
    editor.edit(REQUESTS[:1])
    editor.restore({})
    assert len(editor.bank) == 0
    with pytest.raises(ValueError, match="not the state of a bank"):
        editor.restore({"keys": torch.zeros(3)})


@pytest.mark.parametrize("disk", [False, True])
def test_rolling_back_takes_edits_out_of_the_bank(tmp_path, disk):
    places = {"bank_directory": str(tmp_path / "bank")} if disk else {}
    editor = scen(**places)
    editor.edit(REQUESTS[:2])
    said = answers(editor)
    editor.edit(REQUESTS[2:4])
    editor.delete(IDS[2])
    editor.ledger.rollback(1)
    assert editor.bank.ids == editor.ledger.edited_ids == IDS[:2]
    assert answers(editor) == said
    editor.ledger.rollback()
    assert len(editor.bank) == 0 and (not disk or not list((tmp_path / "bank").iterdir()))


def test_what_neurons_see():
    editor = scen()
    prompts = [request.prompt for request in REQUESTS]
    assert [one.id for one in editor.route(prompts)] == [None] * len(prompts)
    editor.edit(REQUESTS[:3])
    seen, activations = editor.route(prompts), editor.activations(prompts)
    assert [one.id for one in seen[:3]] == IDS[:3]
    for one, row in zip(seen, activations, strict=True):
        assert one.activation == row.max().item()
        assert one.id == (editor.bank.ids[int(row.argmax())] if row.max() > editor.config.theta else None)


def test_activations_that_round_to_one_are_no_tie():
    editor = scen()
    editor.edit(REQUESTS[:2])
    prompt = REQUESTS[0].prompt
    x = editor.inputs([prompt])[0]
    with torch.no_grad():
        editor.bank.neurons.copy_(torch.stack([30 * x, 60 * x]) / (x @ x))
    assert editor.activations([prompt]).tolist() == [[1.0, 1.0]]
    assert editor.route([prompt])[0].id == IDS[1]
    assert editor._routing(x[None]).of == [IDS[1]]


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
def test_a_prompt_that_is_too_long_loses_its_beginning_before_a_neuron_sees_it(bos):
    lm = tiny_lm(bos=bos)
    editor = scen(lm)
    editor.edit(REQUESTS[:2])
    text = " ".join([REQUESTS[0].prompt] * lm.max_length)
    ids = lm.encode(text).ids
    kept = [*ids[:bos], *ids[bos - lm.max_length :]]
    assert len(kept) == lm.max_length
    assert torch.equal(editor.inputs([text]), prompt_inputs(lm, LAYER, [kept]))
    assert 0 < editor.route([text])[0].activation < 1


def test_rolling_back_behind_a_replacement_keeps_what_stood_there():
    editor = scen()
    editor.edit(REQUESTS[:1])
    newer = EditRequest("newer", REQUESTS[0].prompt, SUBJECTS[0], "Galician")
    editor.edit([newer])
    said = answers(editor)
    editor.edit(REQUESTS[1:2])
    editor.ledger.rollback(2)
    assert editor.bank.ids == ["newer"] and answers(editor) == said
    editor.edit(REQUESTS[:1])  # the older once more: it takes the place back
    assert editor.bank.ids == IDS[:1]
    editor.delete(IDS[0])
    assert editor.ledger.edited_ids == [] and len(editor.bank) == 0
    editor.ledger.rollback()
