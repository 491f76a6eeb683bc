"""The bank of experts: memories, files, damage and state."""

import importlib
import logging

import pytest
import torch

from editbench import EditRequest
from editbench.checkpoint import RunCheckpoint
from editbench.files import DamagedFile, read_tensors, write_tensors
from editbench.ledger import Ledger
from tests.methods.scen.given_neurons import DENSE, IDS, REQUESTS, answers, full_at, logits, scen
from tests.small_runs import same
from tests.tiny_models import tiny_lm

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


def resumable(folder):
    lm = tiny_lm()
    return scen(lm, ledger=Ledger(lm, folder / "ledger"), bank_directory=str(folder / "bank"))


def other_numbers(file):
    """A sound file of the same edit with other numbers."""
    tensors, metadata = read_tensors(file)
    write_tensors(file, {name: tensor + 1 for name, tensor in tensors.items()}, metadata)


@pytest.mark.parametrize("how", ["cut", "one bit", "header", "exchanged", "other numbers"])
def test_a_resume_names_a_file_that_was_altered_or_exchanged(tmp_path, how):
    editor = resumable(tmp_path)
    editor.edit(REQUESTS[:2])
    editor.edit(REQUESTS[2:3])
    RunCheckpoint(tmp_path / "ledger").save(2, "", editor, {})
    editor.edit(REQUESTS[3:4])  # its file is behind the checkpoint
    first, victim = sorted((tmp_path / "bank").iterdir())[:2]
    if how == "exchanged":
        victim.write_bytes(first.read_bytes())
    elif how == "other numbers":
        other_numbers(victim)
    else:
        damage(victim, how)
    with pytest.raises(DamagedFile, match="000001-edit%201%2F%C3%BC.safetensors is damaged"):
        RunCheckpoint(tmp_path / "ledger").restore(resumable(tmp_path))
    victim.unlink()
    resumed, whole = resumable(tmp_path), scen()
    assert RunCheckpoint(tmp_path / "ledger").restore(resumed) == (2, {})
    whole.edit(REQUESTS[:2])
    whole.edit(REQUESTS[2:3])
    assert same(resumed.state(), whole.state()) and len(list((tmp_path / "bank").iterdir())) == 3


def test_a_restore_names_a_saved_expert_that_is_not_the_ledgers(tmp_path):
    editor = resumable(tmp_path)
    editor.edit(REQUESTS[:2])
    state = editor.state()
    with pytest.raises(DamagedFile, match="the saved expert of edit 'edit 1/ü' is damaged"):
        editor.restore(state | {"000001.neuron": -state["000001.neuron"]})
    assert len(list((tmp_path / "bank").iterdir())) == 2


def test_a_resume_after_deleted_and_replaced_edits(tmp_path):
    editor = resumable(tmp_path)
    editor.edit(REQUESTS[:3])
    editor.delete(IDS[0])
    editor.edit([REQUESTS[1], REQUESTS[0]])
    RunCheckpoint(tmp_path / "ledger").save(2, "", editor, {})
    resumed = resumable(tmp_path)
    RunCheckpoint(tmp_path / "ledger").restore(resumed)
    assert resumed.bank.ids == editor.bank.ids == [IDS[2], IDS[1], IDS[0]]
    assert same(resumed.state(), editor.state())


def test_an_exchanged_file_is_not_loaded(tmp_path):
    editor = scen()
    editor.edit(REQUESTS[:2])
    editor.bank.save(tmp_path)
    first, second = sorted(tmp_path.iterdir())
    second.write_bytes(first.read_bytes())
    other = scen()
    assert "holds the expert of edit 'edit 0/ü'" in other.bank.load(tmp_path)[IDS[1]]
    assert other.bank.ids == IDS[:1]


def test_a_bank_of_another_weight_is_refused(tmp_path):
    editor = scen()
    editor.edit(REQUESTS[:1])
    editor.bank.save(tmp_path)
    with pytest.raises(ValueError, match="belongs to transformer.*; this bank's are for"):
        scen(layer=0).bank.load(tmp_path)
    with pytest.raises(ValueError, match="belongs to"):
        scen(layer=0).restore(editor.state())


# -- ledger ------------------------------------------------------------------------------------------------------------


def in_ledger(folder, **options):
    lm = tiny_lm()
    return scen(lm, ledger=Ledger(lm, folder / "ledger"), **options)


@pytest.mark.parametrize("places", [{}, {"device_bytes": DENSE, "host_bytes": 0}])
def test_a_checkpoint_holds_no_experts_and_a_resume_has_the_bits(tmp_path, places):
    editor, saved = in_ledger(tmp_path, **places), RunCheckpoint(tmp_path / "ledger")
    sizes = []
    for request in REQUESTS[:4]:
        editor.edit([request])
        saved.save(len(editor.ledger), "", editor, {})
        sizes.append(saved.file.stat().st_size)
    assert max(sizes) - min(sizes) < 16 and editor.state_beside_ledger() == {}
    newer = EditRequest("newer", REQUESTS[1].prompt, REQUESTS[1].subject, "Galician")
    editor.edit([newer, *REQUESTS[4:]])
    editor.delete(IDS[2])
    saved.save(5, "", editor, {})
    resumed = in_ledger(tmp_path, **places)
    RunCheckpoint(tmp_path / "ledger").restore(resumed)
    assert resumed.bank.ids == editor.bank.ids == [IDS[0], IDS[3], "newer", IDS[4], IDS[5]]
    assert same(resumed.state(), editor.state()) and answers(resumed) == answers(editor)
    assert resumed._replacements == editor._replacements == {IDS[1]: "newer"}
    for one in (editor, resumed):
        one.ledger._files = None
        one.edit([REQUESTS[2]])
    assert torch.equal(resumed.bank.neurons, editor.bank.neurons)


def test_a_resume_loads_no_expert_that_was_replaced(tmp_path, monkeypatch):
    editor = in_ledger(tmp_path)
    editor.edit(REQUESTS[:3])
    for number in range(4):
        request = REQUESTS[number % 2]
        editor.edit([EditRequest(f"newer {number}", request.prompt, request.subject, "Galician")])
    resumed, loaded = in_ledger(tmp_path), []
    load = resumed.ledger.load_memory
    monkeypatch.setattr(resumed.ledger, "load_memory", lambda blob: loaded.append(blob) or load(blob))
    resumed.ledger.replay()
    resumed.recall({})
    assert resumed.bank.ids == editor.bank.ids == [IDS[2], "newer 2", "newer 3"]
    assert len(loaded) == 3 and same(resumed.state(), editor.state())
    assert resumed._replacements == editor._replacements
    for one in (resumed, editor):  # those replaced are in the ledger still
        one.ledger.rollback(1)
    assert resumed.bank.ids == editor.bank.ids == IDS[:3] and same(resumed.state(), editor.state())


def test_experts_beyond_the_memories_are_read_from_the_ledger(tmp_path):
    editor, plain = in_ledger(tmp_path, device_bytes=0, host_bytes=0), scen()
    for one in (editor, plain):
        one.edit(REQUESTS[:4])
    assert not editor.bank.device.experts and not editor.bank.host.experts
    assert answers(editor) == answers(plain) and same(editor.state(), plain.state())
    assert editor.footprint().disk == sum(blob.bytes for blob in editor.bank.stored.values()) > 4 * DENSE
    assert plain.footprint().disk == 0
    segment = tmp_path / "ledger" / "segment-000000.bin"
    data = bytearray(segment.read_bytes())
    data[editor.bank.stored[IDS[1]].end - 1] ^= 1
    segment.write_bytes(data)
    with pytest.raises(DamagedFile, match="segment-000000.bin, memory"):
        answers(editor)
    resumed = in_ledger(tmp_path)
    resumed.ledger.replay()
    with pytest.raises(DamagedFile, match="segment-000000.bin, memory"):
        resumed.recall({})


def test_a_resume_leaves_sound_files_alone_and_writes_missing_ones(tmp_path):
    editor, saved = resumable(tmp_path), RunCheckpoint(tmp_path / "ledger")
    for request in REQUESTS[:5]:
        editor.edit([request])
    saved.save(5, "", editor, {})
    before = {file.name: file.stat().st_ino for file in (tmp_path / "bank").iterdir()}
    editor.edit(REQUESTS[5:])
    RunCheckpoint(tmp_path / "ledger").restore(resumable(tmp_path))
    assert {file.name: file.stat().st_ino for file in (tmp_path / "bank").iterdir()} == before
    sorted((tmp_path / "bank").iterdir())[3].unlink()
    resumed = resumable(tmp_path)
    RunCheckpoint(tmp_path / "ledger").restore(resumed)
    loaded = scen()
    assert loaded.bank.load(tmp_path / "bank") == {} and loaded.bank.ids == IDS[:5] == resumed.bank.ids
    assert len(list((tmp_path / "bank").iterdir())) == 5


@pytest.mark.parametrize("where", ["ledger_files.encode_tensors", "methods.scen.expert_files.write_tensors"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_write_that_fails_leaves_bank_and_ledger_as_they_were(tmp_path, monkeypatch, where, at):
    editor, whole = resumable(tmp_path), scen()
    editor.edit(REQUESTS[:2])
    whole.edit(REQUESTS[:2])
    module, name = f"editbench.{where}".rsplit(".", 1)
    write = getattr(importlib.import_module(module), name)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(f"{module}.{name}", full_at(at, write))
        editor.edit([REQUESTS[1], *REQUESTS[2:4]])
    assert editor.ledger.edited_ids == editor.bank.ids == IDS[:2] and len(list((tmp_path / "bank").iterdir())) == 2
    assert same(editor.state(), whole.state())
    for one in (editor, whole):
        one.edit(REQUESTS[2:4])
    assert same(editor.state(), whole.state())
    resumed = resumable(tmp_path)
    resumed.ledger.replay()
    resumed.recall({})
    assert same(resumed.state(), whole.state())


def test_a_bank_with_experts_from_elsewhere_is_saved_whole(tmp_path):
    other, editor = scen(), in_ledger(tmp_path)
    other.edit(REQUESTS[:1])
    other.bank.save(tmp_path / "other")
    editor.bank.load(tmp_path / "other")
    editor.edit(REQUESTS[1:3])
    state, resumed = editor.state_beside_ledger(), in_ledger(tmp_path)
    assert same(state, editor.state())
    resumed.ledger.replay()
    resumed.recall(state)
    assert resumed.bank.ids == IDS[:3] and same(resumed.state(), editor.state())


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
