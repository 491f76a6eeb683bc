"""The ledger: what it applies it can take back, save and replay, bit for bit."""

import json
import os
import shutil

import pytest
import torch

from editbench import ledger_files
from editbench.files import DamagedFile, ResultsError, content_digest
from editbench.ledger import Dense, Ledger, LedgerError, LowRank, NotFiniteError
from editbench.ledger_files import LedgerFiles
from editbench.weight_changes import from_tensors, to_tensors
from tests.tiny_models import tiny_lm

TINY_ARCHITECTURES = ("gpt2", "llama")


def changes(lm, seed, layer=1, rank=2):
    generator = torch.Generator().manual_seed(seed)
    name = lm.mlp_out_name(layer)
    out, inner = lm.weight(name).shape
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64) * 0.01  # noqa: E731
    return [LowRank(name, draw(out, rank), draw(inner, rank)), Dense(lm.mlp_out_name(0), draw(out, inner))]


def write(ledger, number):
    with ledger.transaction([f"edit-{number}"]) as transaction:
        for change in changes(ledger.lm, number):
            transaction.apply(change)


def weights(lm):
    return {k: v.clone() for k, v in lm.model.state_dict().items()}


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_rollback_is_bitwise(architecture, dtype, on_disk, tmp_path):
    lm = tiny_lm(architecture, dtype)
    ledger = Ledger(lm, tmp_path / "ledger" if on_disk else None)
    states = [weights(lm)]
    for number in range(4):
        write(ledger, number)
        states.append(weights(lm))
    assert not same(states[3], states[4])
    for keep in (2, 0):
        ledger.rollback(keep)
        assert same(weights(lm), states[keep])
        assert ledger.edited_ids == [f"edit-{i}" for i in range(keep)]
    if on_disk:
        assert contents(tmp_path / "ledger") == {"index.jsonl": b""}


def test_the_change_is_what_the_factors_say():
    for architecture in TINY_ARCHITECTURES:
        lm = tiny_lm(architecture, "float64")
        low, dense = changes(lm, 7)
        ledger = Ledger(lm)
        write(ledger, 7)
        torch.testing.assert_close(ledger.delta(low.weight), low.left @ low.right.T)
        torch.testing.assert_close(ledger.delta(dense.weight), dense.delta)
        assert ledger.delta(lm.mlp_out_name(2)).abs().max() == 0


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_replay_in_a_fresh_host_is_bitwise(architecture, tmp_path):
    lm = tiny_lm(architecture)
    ledger = Ledger(lm, tmp_path)
    for number in range(3):
        write(ledger, number)
    fresh = tiny_lm(architecture)
    again = Ledger(fresh, tmp_path)
    again.replay()
    assert same(weights(fresh), weights(lm))
    assert again.digest() == ledger.digest()
    assert again.edited_ids == ledger.edited_ids
    ledger.rollback(2)
    shorter = Ledger(tiny_lm(architecture), tmp_path)
    shorter.replay(keep=2)
    assert shorter.digest() == ledger.digest()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_edit_that_fails_half_way_leaves_no_trace(error, tmp_path):
    lm = tiny_lm("gpt2")
    ledger = Ledger(lm, tmp_path)
    write(ledger, 0)
    before = weights(lm)
    with pytest.raises(error), ledger.transaction(["bad"]) as transaction:
        transaction.apply(changes(lm, 1)[0])
        raise error
    assert same(weights(lm), before)
    assert ledger.edited_ids == ["edit-0"]
    assert len(LedgerFiles(tmp_path).index()) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_misfits_are_refused(value):
    lm = tiny_lm("llama")
    before = weights(lm)
    ledger = Ledger(lm)
    low, dense = changes(lm, 1)
    low.left[0, 0] = value
    with pytest.raises(LedgerError, match="NaN or infinite"), ledger.transaction(["x"]) as transaction:
        transaction.apply(dense)
        transaction.apply(low)
    with pytest.raises(LedgerError, match="does not fit"), ledger.transaction(["x"]) as transaction:
        transaction.apply(Dense(dense.weight, dense.delta.T))
    assert same(weights(lm), before)
    assert len(ledger) == 0


def overflowing(lm, kind):
    """A finite change of layer 1 after which one number of the weight is infinite in the weight's dtype."""
    name = lm.mlp_out_name(1)
    out, inner = lm.weight(name).shape
    half_way = 0.75 * torch.finfo(lm.model.dtype).max  # twice that is too much
    if kind == "dense":
        delta = torch.zeros(out, inner, dtype=torch.float64)
        delta[3, 5] = half_way
        return Dense(name, delta)
    left, right = torch.zeros(out, 1, dtype=torch.float64), torch.zeros(inner, 1, dtype=torch.float64)
    left[3], right[5] = half_way, 1.0
    return LowRank(name, left, right)


@pytest.mark.parametrize("kind", ["dense", "low rank"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_weight_that_overflows_is_refused_and_put_back(dtype, kind, tmp_path):
    lm = tiny_lm("llama", dtype)
    ledger = Ledger(lm, tmp_path)
    write(ledger, 0)
    with ledger.transaction(["large"]) as transaction:
        transaction.apply(overflowing(lm, kind))
    before = weights(lm)
    with (
        pytest.raises(NotFiniteError, match=r"layers\.1\..* infinite in " + dtype),
        ledger.transaction(["x"]) as transaction,
    ):
        transaction.apply(changes(lm, 1)[1])
        transaction.apply(overflowing(lm, kind))
    assert same(weights(lm), before)
    assert ledger.edited_ids == ["edit-0", "large"] and len(LedgerFiles(tmp_path).index()) == 2


def test_a_change_that_the_dtype_cannot_hold_is_refused():
    lm = tiny_lm("gpt2", "float16")
    before = weights(lm)
    name = lm.mlp_out_name(1)
    delta = torch.zeros_like(lm.weight(name), dtype=torch.float32)
    delta[0, 0] = 1e5
    ledger = Ledger(lm)
    with pytest.raises(NotFiniteError), ledger.transaction(["x"]) as transaction:
        transaction.apply(Dense(name, delta))
    assert same(weights(lm), before) and len(ledger) == 0


def test_a_replay_that_overflows_leaves_the_model_unedited(tmp_path):
    write(Ledger(tiny_lm("llama", "float16"), tmp_path), 0)
    lm = tiny_lm("llama", "float16")
    tensors, kinds = to_tensors([overflowing(lm, "dense") for _ in range(2)])
    LedgerFiles(tmp_path).append(["x"], [kinds[0]["weight"]], tensors, {"changes": kinds})
    before = weights(lm)
    ledger = Ledger(lm, tmp_path)
    with pytest.raises(NotFiniteError, match=r"batch 1: .* infinite in float16"):
        ledger.replay()
    assert same(weights(lm), before) and len(ledger) == 0
    ledger.replay(keep=1)
    assert ledger.edited_ids == ["edit-0"]


def test_pristine_shows_the_original_weights_and_comes_back():
    lm = tiny_lm("gpt2")
    original = weights(lm)
    ledger = Ledger(lm)
    write(ledger, 0)
    edited = weights(lm)
    with ledger.pristine():
        assert same(weights(lm), original)
    assert same(weights(lm), edited)


def test_damaged_and_missing_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_files, "SEGMENT_BYTES", 1)  # a segment a batch
    ledger = Ledger(tiny_lm("gpt2"), tmp_path)
    for number in range(3):
        write(ledger, number)
    file = tmp_path / "segment-000001.bin"
    whole = file.read_bytes()
    lm = tiny_lm("gpt2")
    for at in (0, 9, 200, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DamagedFile, match=r"segment-000001\.bin, batch 1 .* is damaged"):
            Ledger(lm, tmp_path).replay()
        assert same(weights(lm), weights(tiny_lm("gpt2")))
    for size in (0, 5, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(DamagedFile, match=r"segment-000001\.bin, batch 1 .* is damaged"):
            Ledger(lm, tmp_path).replay()
    file.unlink()
    with pytest.raises(DamagedFile, match=r"segment-000001\.bin, batch 1 .* cannot be read: No such file"):
        Ledger(tiny_lm("gpt2"), tmp_path).replay()
    file.write_bytes(whole)
    index = tmp_path / "index.jsonl"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text(lines[0] + lines[2])
    with pytest.raises(DamagedFile, match=r"index\.jsonl: batch 1 is missing"):
        Ledger(tiny_lm("gpt2"), tmp_path).replay()
    index.write_text(lines[0] + lines[1].replace("edit-1", "edit-9") + lines[2])
    with pytest.raises(DamagedFile, match="is not the batch of the index"):
        Ledger(tiny_lm("gpt2"), tmp_path).replay()
    with pytest.raises(DamagedFile, match="holds 3 edit batches, 4 are needed"):
        Ledger(tiny_lm("gpt2"), tmp_path).replay(keep=4)


def test_batches_are_safetensors_with_readable_metadata(tmp_path):
    from safetensors import safe_open

    lm = tiny_lm("gpt2")
    write(Ledger(lm, tmp_path), 5)
    with safe_open(str(tmp_path / "segment-000000.bin"), framework="pt") as handle:
        assert json.loads(handle.metadata()["editbench"])["metadata"]["ids"] == ["edit-5"]
    ledger = Ledger(tiny_lm("gpt2"), tmp_path)
    (batch,) = LedgerFiles(tmp_path).index()
    assert batch.ids == ("edit-5",)
    tensors, metadata = LedgerFiles(tmp_path).load(0, batch)
    assert batch.blob.digest == content_digest(tensors, metadata)
    low, dense = from_tensors(tensors, metadata)
    assert isinstance(low, LowRank)
    assert isinstance(dense, Dense)
    assert torch.equal(low.left, changes(lm, 5)[0].left)
    assert ledger.entries == []


def test_equal_edits_give_equal_files(tmp_path):
    for name in ("a", "b"):
        ledger = Ledger(tiny_lm("gpt2"), tmp_path / name, keyframe_every=2)
        for number in range(3):
            write(ledger, number)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("segment_bytes", [1, 30_000, 64 << 20])
def test_a_rollback_truncates_the_files_to_what_they_were(segment_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_files, "SEGMENT_BYTES", segment_bytes)
    ledger = Ledger(tiny_lm("llama"), tmp_path, keyframe_every=2)
    states = [contents(tmp_path)]
    for number in range(6):
        write(ledger, number)
        if number == 3:
            ledger.forget_id("edit-1")
        states.append(contents(tmp_path))
    for keep in (5, 4, 3, 1):
        ledger.rollback(keep)
        assert contents(tmp_path) == states[keep]
        assert ("edit-1" in ledger.edited_ids) == (keep in (2, 3))
    ledger.rollback(0)
    assert contents(tmp_path) == {"index.jsonl": b""}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_replay_from_a_keyframe_has_the_bits_of_a_replay_from_the_start(architecture, dtype, tmp_path, caplog):
    ledger = Ledger(tiny_lm(architecture, dtype), tmp_path, keyframe_every=3)
    for number in range(8):
        write(ledger, number)
    applied = []

    def replayed(keep=None):
        applied.clear()
        again = Ledger(tiny_lm(architecture, dtype), tmp_path / "copy")
        apply = again._apply
        again._apply = lambda change: applied.append(change) or apply(change)
        again.replay(keep)
        return again

    def copied():
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))

    copied()
    again = replayed()
    assert len(applied) == 2 * 2 and same(weights(again.lm), weights(ledger.lm))
    assert torch.equal(again.delta(again.changed_weights[0]), ledger.delta(again.changed_weights[0]))
    assert again.digest() == ledger.digest() and again.edited_ids == ledger.edited_ids
    again.rollback(4)  # behind the first keyframe, with pristine weights from before it
    ledger.rollback(4)
    assert same(weights(again.lm), weights(ledger.lm))
    write(again, 9)
    write(ledger, 9)
    copied()
    (tmp_path / "copy" / "keyframe-000003.safetensors").write_bytes(b"damaged")
    again = replayed()
    assert "earlier keyframe" in caplog.text and len(applied) == 5 * 2
    assert same(weights(again.lm), weights(ledger.lm))


def test_an_altered_batch_that_a_keyframe_stands_for_is_named(tmp_path):
    ledger = Ledger(tiny_lm("gpt2"), tmp_path, keyframe_every=2)
    for number in range(3):
        write(ledger, number)
    file = tmp_path / "segment-000000.bin"
    data = bytearray(file.read_bytes())
    data[500] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedFile, match="batch 0"):
        Ledger(tiny_lm("gpt2"), tmp_path).replay()


def test_many_batches_are_a_few_files(tmp_path):
    files = LedgerFiles(tmp_path)
    for number in range(200):
        files.append([str(number)], ["w"], {"t": torch.full((4,), float(number))}, {"changes": []})
    assert sorted(contents(tmp_path)) == ["index.jsonl", "segment-000000.bin"]
    again = LedgerFiles(tmp_path)
    index = again.index()
    assert [batch.ids for batch in index] == [(str(i),) for i in range(200)] and again.batches == 200
    assert float(again.load(150, index[150])[0]["t"][0]) == 150.0


@pytest.mark.parametrize("fails", ["segment", "index", "index line", "keyframe", "forgotten"])
def test_a_failed_write_loses_and_replays_nothing(fails, tmp_path, monkeypatch):
    lm = tiny_lm("gpt2")
    ledger = Ledger(lm, tmp_path, keyframe_every=3)
    for number in range(5):
        write(ledger, number)
    before, files = weights(lm), contents(tmp_path)
    full = OSError(28, "No space left on device")
    replayed, replay = [], ledger._replay
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_replay", lambda number, *_: replayed.append(number) or replay(number, *_))
        failing_file = {"keyframe": "add_keyframe", "forgotten": "forget"}.get(fails)
        if failing_file is not None:
            patch.setattr(ledger._files, failing_file, lambda *_: (_ for _ in ()).throw(full))
        elif fails == "index line":
            patch.setattr(ledger_files, "append_lines", lambda *_: (_ for _ in ()).throw(full))
        else:
            fsync, calls = os.fsync, []
            at = {"segment": 1, "index": 2}[fails]

            def failing(descriptor):
                calls.append(descriptor)
                if len(calls) == at:
                    raise full
                fsync(descriptor)

            patch.setattr(os, "fsync", failing)
        with (
            pytest.raises((OSError, ResultsError), match="No space left"),
            ledger.transaction(["edit-5"]) as transaction,
        ):
            for change in changes(lm, 5):
                transaction.apply(change)
            transaction.forgotten += ["edit-1"] if fails == "forgotten" else []
    assert same(weights(lm), before) and contents(tmp_path) == files and replayed == []
    assert ledger.edited_ids == [f"edit-{i}" for i in range(5)]
    write(ledger, 6)
    fresh = Ledger(tiny_lm("gpt2"), tmp_path)
    fresh.replay()
    assert same(weights(fresh.lm), weights(lm)) and fresh.edited_ids == [*(f"edit-{i}" for i in range(5)), "edit-6"]


def test_a_rollback_and_a_failure_touch_only_the_weights_they_must(tmp_path, monkeypatch):
    """Edits of layer 0 and of layer 1 in turn; the last three of them change layer 1."""
    lm = tiny_lm("llama")
    ledger = Ledger(lm, tmp_path, keyframe_every=4)
    states = []
    for number in range(9):
        states.append(weights(lm))
        with ledger.transaction([str(number)]) as transaction:
            transaction.apply(changes(lm, number)[0 if number % 2 or number > 5 else 1])
    name, other = lm.mlp_out_name(1), lm.mlp_out_name(0)
    applied, written, apply = [], [], ledger._apply
    monkeypatch.setattr(ledger, "_apply", lambda change: applied.append(change.weight) or apply(change))
    put = ledger._set
    monkeypatch.setattr(ledger, "_set", lambda tensors: written.append(set(tensors)) or put(tensors))
    with pytest.raises(RuntimeError), ledger.transaction(["x"]) as transaction:
        transaction.apply(changes(lm, 20)[0])
        raise RuntimeError
    assert written == [{name}] and applied == [name]
    ledger.rollback(7)
    assert same(weights(lm), states[7]) and written == [{name}] * 2 and set(applied) == {name} and other not in applied
    ledger.rollback(5)
    assert same(weights(lm), states[5])


def test_copies_of_weights_are_made_once(tmp_path):
    ledger = Ledger(tiny_lm("gpt2"), tmp_path)
    write(ledger, 0)
    write(ledger, 1)
    places = {name: copy.data_ptr() for name, copy in ledger._copies.items()}
    assert len(places) == 2
    for number in range(2, 5):
        edited = weights(ledger.lm)
        with ledger.transaction([f"edit-{number}"]) as transaction:
            with ledger.pristine(), ledger.pristine():
                assert same(weights(ledger.lm), weights(tiny_lm("gpt2")))
            assert same(weights(ledger.lm), edited)
            first, second = changes(ledger.lm, number)
            transaction.apply(first)
            half = weights(ledger.lm)
            with ledger.pristine():
                assert same(weights(ledger.lm), weights(tiny_lm("gpt2")))
            assert same(weights(ledger.lm), half)
            transaction.apply(second)
    assert {name: copy.data_ptr() for name, copy in ledger._copies.items()} == places
    fresh = Ledger(tiny_lm("gpt2"), tmp_path)
    fresh.replay()
    assert same(weights(fresh.lm), weights(ledger.lm))


def test_keyframes_take_no_more_space_than_the_batches_and_a_stop_moves_none(tmp_path):
    def filled(folder, ledger, numbers):
        for number in numbers:
            with ledger.transaction([str(number)]) as transaction:
                transaction.apply(changes(ledger.lm, number, rank=1)[0])
        return contents(folder)

    whole = filled(tmp_path / "a", Ledger(tiny_lm("gpt2"), tmp_path / "a", keyframe_every=2), range(40))
    sizes = {kind: [len(data) for name, data in whole.items() if kind in name] for kind in ("keyframe", "segment")}
    assert 2 <= len(sizes["keyframe"]) < 19 and sum(sizes["keyframe"]) <= 1.1 * sum(sizes["segment"])
    filled(tmp_path / "b", Ledger(tiny_lm("gpt2"), tmp_path / "b", keyframe_every=2), range(23))
    again = Ledger(tiny_lm("gpt2"), tmp_path / "b", keyframe_every=2)
    again.replay()
    assert filled(tmp_path / "b", again, range(23, 40)) == whole


def test_what_a_killed_process_left_behind_the_last_batch_is_cut_off(tmp_path):
    ledger = Ledger(tiny_lm("gpt2"), tmp_path)
    write(ledger, 0)
    with open(tmp_path / "segment-000000.bin", "ab") as file:
        file.write(b"half a batch")
    with open(tmp_path / "index.jsonl", "ab") as file:
        file.write(b'{"batch": 1, "ids')
    again = Ledger(tiny_lm("gpt2"), tmp_path)
    again.replay()
    write(again, 1)
    write(ledger2 := Ledger(tiny_lm("gpt2"), tmp_path / "other"), 0)
    write(ledger2, 1)
    other = contents(tmp_path / "other")
    assert contents(tmp_path) == other


def test_a_ledger_on_disk_is_replayed_before_it_is_written(tmp_path):
    write(Ledger(tiny_lm("gpt2"), tmp_path), 0)
    with pytest.raises(LedgerError, match="replay them first"):
        write(Ledger(tiny_lm("gpt2"), tmp_path), 1)


@pytest.mark.parametrize("on_disk", [False, True])
def test_an_id_is_forgotten_and_comes_back_with_a_rollback(on_disk, tmp_path):
    ledger = Ledger(tiny_lm("gpt2"), tmp_path if on_disk else None)
    for number in range(3):
        write(ledger, number)
    ledger.forget_id("edit-0")
    ledger.forget_id("nobody")
    with pytest.raises(RuntimeError), ledger.transaction(["edit-3"]):
        ledger.forget_id("edit-1")
        raise RuntimeError
    assert ledger.edited_ids == ["edit-1", "edit-2"]
    with ledger.transaction(["edit-3"]) as transaction:
        ledger.forget_id("edit-1")
        transaction.remember("edit-3", {"key": torch.arange(3.0)}, {"radius": 1.5})
    assert ledger.edited_ids == ["edit-2", "edit-3"]
    if on_disk:
        again = Ledger(tiny_lm("gpt2"), tmp_path)
        again.replay()
        assert again.edited_ids == ledger.edited_ids
        tensors, metadata = again.load_memory(again.entries[3].memory["edit-3"])
        assert torch.equal(tensors["key"], torch.arange(3.0)) and metadata == {"radius": 1.5}
    ledger.rollback(3)
    assert ledger.edited_ids == ["edit-1", "edit-2"]
    ledger.rollback(2)
    assert ledger.edited_ids == ["edit-0", "edit-1"]


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_memory_that_cannot_be_changed_takes_its_batch_back(on_disk, tmp_path):
    ledger = Ledger(tiny_lm("gpt2"), tmp_path if on_disk else None)
    write(ledger, 0)
    before, sizes = ledger.digest(), {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    seen = []

    def fail(entry):
        seen.append(entry.ids)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), ledger.transaction(["edit-1"]) as transaction:
        transaction.apply(changes(ledger.lm, 1)[0])
        transaction.remember("edit-1", {"key": torch.ones(2)}, {})
        transaction.when_kept.append(fail)
    assert seen == [("edit-1",)] and ledger.edited_ids == ["edit-0"] and ledger.digest() == before
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == sizes
    write(ledger, 1)
    if on_disk:
        again = Ledger(tiny_lm("gpt2"), tmp_path)
        again.replay()
        assert again.digest() == ledger.digest()


def test_replay_from_disk_has_the_same_bits_whatever_layout_the_factors_came_in(tmp_path):
    """Factors from a solve are column-major; a file gives them row-major. Products differ in the last bits."""
    lm = tiny_lm("llama", "float64")
    name = lm.mlp_out_name(1)
    out, inner = lm.weight(name).shape
    generator = torch.Generator().manual_seed(5)
    ledger = Ledger(lm, tmp_path)
    for number in range(3):
        right = torch.randn(10, inner, dtype=torch.float64, generator=generator).T  # column-major
        left = torch.randn(out, 10, dtype=torch.float64, generator=generator)
        with ledger.transaction([f"edit-{number}"]) as transaction:
            transaction.apply(LowRank(name, left, right))
    fresh = Ledger(tiny_lm("llama", "float64"), tmp_path)
    fresh.replay()
    assert fresh.digest() == ledger.digest()


def test_a_failed_edit_is_not_part_of_the_digest():
    ledger, other = Ledger(tiny_lm("gpt2")), Ledger(tiny_lm("gpt2"))
    with pytest.raises(RuntimeError), ledger.transaction(["x"]) as transaction:
        transaction.apply(changes(ledger.lm, 1)[0])
        raise RuntimeError
    assert ledger.digest() == other.digest()
    assert ledger.changed_weights == []


def test_a_weight_of_whole_numbers_takes_no_change():
    """A quantised weight would round the change away, and the edit would count as made."""
    lm = tiny_lm("gpt2")
    name = lm.mlp_out_name(1)
    module = lm.mlp_out(1)
    module.weight = torch.nn.Parameter(module.weight.mul(100).to(torch.int8), requires_grad=False)
    ledger = Ledger(lm)
    with (
        pytest.raises(LedgerError, match="holds int8, which cannot take a change"),
        ledger.transaction(["a"]) as transaction,
    ):
        transaction.apply(Dense(name, torch.full(tuple(lm.weight(name).shape), 0.3)))
    assert len(ledger) == 0
