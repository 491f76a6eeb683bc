"""The ledger: what it applies it can take back, save and replay, bit for bit."""

import json

import pytest
import torch

from editbench.ledger import Dense, Ledger, LedgerError, LowRank, NotFiniteError, read_shard, write_shard
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
        assert not list((tmp_path / "ledger").glob("*.safetensors"))


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
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


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
    assert ledger.edited_ids == ["edit-0", "large"] and len(list(tmp_path.iterdir())) == 2


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
    write_shard(tmp_path / "000001.safetensors", ("x",), [overflowing(lm, "dense") for _ in range(2)])
    before = weights(lm)
    ledger = Ledger(lm, tmp_path)
    with pytest.raises(NotFiniteError, match=r"000001\.safetensors: .* infinite in float16"):
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


def test_damaged_and_missing_files_are_named(tmp_path):
    ledger = Ledger(tiny_lm("gpt2"), tmp_path)
    for number in range(3):
        write(ledger, number)
    file = tmp_path / "000001.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    lm = tiny_lm("gpt2")
    with pytest.raises(LedgerError, match=r"000001\.safetensors"):
        Ledger(lm, tmp_path).replay()
    assert same(weights(lm), weights(tiny_lm("gpt2")))
    file.unlink()
    with pytest.raises(LedgerError, match="batch 000001 is missing"):
        Ledger(tiny_lm("gpt2"), tmp_path).replay()


def test_shards_are_safetensors_with_readable_metadata(tmp_path):
    from safetensors import safe_open

    ledger = Ledger(tiny_lm("gpt2"), tmp_path)
    write(ledger, 5)
    with safe_open(str(tmp_path / "000000.safetensors"), framework="pt") as handle:
        assert json.loads(handle.metadata()["ids"]) == ["edit-5"]
    ids, (low, dense) = read_shard(tmp_path / "000000.safetensors")
    assert ids == ("edit-5",)
    assert isinstance(low, LowRank)
    assert isinstance(dense, Dense)


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
