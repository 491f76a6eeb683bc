"""The ledger: what it applies it can take back, save and replay, bit for bit."""

import pytest
import torch

from editbench.ledger import Dense, Ledger, LedgerError, LowRank, NotFiniteError
from editbench.ledger_files import LedgerFiles
from editbench.weight_changes import to_tensors
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
def test_replay_in_a_fresh_model_is_bitwise(architecture, tmp_path):
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


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_a_trial_is_taken_back_to_the_bit(earlier, fails):
    """Behind batches and behind changes of the same one, whether it ends well or not."""
    lm = tiny_lm("gpt2", "bfloat16")
    ledger = Ledger(lm)
    write(ledger, 0)
    with ledger.transaction(["edit-1"]) as transaction:
        for change in changes(lm, 1)[:earlier]:
            transaction.apply(change)
        before, kept = weights(lm), list(transaction.changes)
        try:
            with transaction.trial():
                for change in changes(lm, 2):
                    transaction.apply(change)
                assert len(transaction.changes) == 2 + earlier and not same(weights(lm), before)
                if fails:
                    transaction.apply(Dense(lm.mlp_out_name(2), torch.full((32, 48), float("nan"))))
        except NotFiniteError:
            assert fails
        assert same(weights(lm), before) and transaction.changes == kept
        transaction.apply(changes(lm, 3)[0])
    after = weights(lm)
    ledger.rollback(1)
    assert not same(weights(lm), after)
    with ledger.transaction(["edit-1"]) as transaction:
        for change in [*changes(lm, 1)[:earlier], changes(lm, 3)[0]]:
            transaction.apply(change)
    assert same(weights(lm), after)
