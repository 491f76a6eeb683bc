"""Devices by name, with room and with random numbers; and that the tests' two fake devices are strict."""

import pytest
import torch

from editbench.foresight import check_device
from editbench.model import devices
from editbench.model.devices import device_with_room, float64_device, in_float64, moved_to, seeded, usable_device
from editbench.model.loading import load_pretrained
from tests.fake_devices import FIRST, HOST, SECOND, fake_devices
from tests.tiny_models import tiny_lm


@pytest.mark.parametrize("name", ["auto", "cpu", "CPU", " cpu "])
def test_names_of_devices(name):
    assert usable_device(name).type in ("cpu", "cuda" if name == "auto" else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
@pytest.mark.parametrize("name", [0, "0", "cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_one_line(name):
    with pytest.raises(
        ValueError, match=f"device {name} cannot be used here .* finds 0 GPUs: use auto or cpu"
    ) as error:
        usable_device(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "message"), [("gpu", "unknown device 'gpu'"), ("meta", "has no memory")])
def test_what_is_no_device_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        usable_device(name)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="for machines without an Apple GPU")
@pytest.mark.parametrize("refuse", [usable_device, check_device])
def test_an_apple_gpu_that_is_not_there_is_one_line(refuse):
    with pytest.raises(ValueError, match=r"device mps .* the GPU of an Apple computer, .* use auto or cpu$") as error:
        refuse("mps")
    assert "\n" not in str(error.value)


def test_auto_is_never_an_apple_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usable_device("auto") == torch.device("cpu")


def test_float64_is_taken_where_it_exists():
    assert float64_device(torch.device("mps")) == torch.device("cpu")
    assert [float64_device(torch.device(name)).type for name in ("cpu", "cuda")] == ["cpu", "cuda"]
    x = torch.arange(3.0)
    assert in_float64(x).dtype == torch.float64 and torch.equal(in_float64(x), x.double())
    assert moved_to(x.double(), x.bfloat16()).dtype == moved_to(x, x.bfloat16()).dtype == torch.bfloat16


def test_a_float64_model_on_an_apple_gpu_is_refused_before_it_is_loaded(monkeypatch):
    monkeypatch.setattr("editbench.model.loading.usable_device", torch.device)
    with pytest.raises(ValueError, match=r"device mps has no float64; give model.dtype=float32, or model.device=cpu"):
        load_pretrained("nowhere", "float64", "mps", None, None)


@pytest.mark.parametrize(("needed", "place"), [(5, "cuda:1"), (6, "cpu")])
def test_matrices_go_where_they_have_room(monkeypatch, needed, place):
    """Memory that torch holds unused counts as free."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3, 10))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 6)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4)
    assert device_with_room(torch.device("cuda:1"), needed) == torch.device(place)
    assert device_with_room(torch.device("cpu"), 10**15) == torch.device("cpu")
    assert device_with_room(torch.device("mps"), 1) == torch.device("cpu")  # no float64


def test_random_numbers_of_a_block_leave_those_outside_as_they_were():
    model, before = tiny_lm("gpt2").model, torch.random.get_rng_state()
    drawn = []
    for _ in range(2):
        with seeded(model, 7):
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn) and torch.equal(torch.random.get_rng_state(), before)


def test_free_memory_is_asked_of_gpus_alone():
    assert devices.free_bytes(torch.device("cpu")) is None


@pytest.mark.parametrize(
    "mix",
    [
        lambda here, there, host: here + there,
        lambda here, there, host: here @ host,
        lambda here, there, host: torch.cat([here, there]),
        lambda here, there, host: here[there[0].long()],
        lambda here, there, host: torch.nn.functional.embedding(host.long(), here),
        lambda here, there, host: here.add_(there),
        lambda here, there, host: here.numpy(),
        lambda here, there, host: here.T[:1] * host[0, 0].to(there.device),
        lambda here, there, host: here.normal_(generator=torch.Generator()),
        lambda here, there, host: torch.ones(2, device=FIRST) + torch.ones(2),
    ],
)
def test_fake_devices_refuse_what_cuda_refuses(mix):
    with fake_devices():
        here, there, host = torch.ones(2, 2, device=FIRST), torch.ones(2, 2).to(SECOND), torch.ones(2, 2)
        with pytest.raises((RuntimeError, TypeError), match="same device|indices|generator|to numpy"):
            mix(here, there, host)


def test_fake_devices_allow_what_cuda_allows_and_gradients_come_back():
    with fake_devices():
        here, there, host = torch.ones(2, 2, device=FIRST), torch.ones(2, 2).to(SECOND), torch.arange(2)
        assert (here.device, here.T[0].device, there.device, here.cpu().device) == (FIRST, FIRST, SECOND, HOST)
        assert (here * torch.tensor(2.0)).device == FIRST  # a number of the host's
        assert here[host].device == FIRST and torch.zeros_like(there).device == SECOND
        assert here.copy_(there).device == FIRST and there.double().device == SECOND
        start = torch.ones(2, device=FIRST, requires_grad=True)
        (start.to(SECOND) * there[0]).sum().backward()
        assert start.grad.device == FIRST and start.grad.cpu().tolist() == [1.0, 1.0]
    assert torch.ones(2).device == torch.device("cpu")
