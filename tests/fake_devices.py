"""Two devices that are not there: tensors on the CPU that carry the device they are said to be on.

    with fake_devices():
        lm = split(tiny_lm("llama"))  # embedding and first layer on FIRST, the rest on SECOND

Within the block ``tensor.device``, ``to``, ``cpu`` and the factories of torch obey the label, and an operation over
tensors with different labels raises, as CUDA does. What CUDA allows is allowed: a number of the host's beside tensors
of a device, indices of the host's, copies. A label belongs to a storage, so that views have that of their base.

All tensors lie in main memory and are computed by the same code, so that numbers must not differ in a bit. What is not
seen: code that asks for ``device.type == "cuda"``, and other kernels' rounding.
"""

import functools
from contextlib import contextmanager

import torch
from accelerate import dispatch_model
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from editbench import LanguageModel

HOST, FIRST, SECOND = torch.device("cpu"), torch.device("cpu:1"), torch.device("cpu:2")
_ANYWHERE = torch.device("meta")  # of tensors that torch makes itself, within an operation
_FACTORIES = (
    *("zeros", "ones", "full", "empty", "arange", "eye", "linspace", "rand", "randn", "randint", "randperm"),
    *("tensor", "as_tensor", "from_numpy"),
)
_aten = torch.ops.aten
_COPIES = {_aten.copy_.default, _aten._to_copy.default}
_INDEXED = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}
_real_to = torch.Tensor.to


class Labels:
    """The device of every storage that was seen; a storage without a label is the host's."""

    def __init__(self):
        self._known, self._limit = {}, 4096

    def of(self, tensor):
        """The label of a tensor."""
        if tensor.is_meta:
            return torch.device("meta")
        found = self._known.get(tensor.untyped_storage()._cdata)
        return found[1] if found else HOST

    def floats(self, tensor):
        """Whether torch made the tensor itself within an operation, for whatever device."""
        return not tensor.is_meta and self.of(tensor) == _ANYWHERE

    def put(self, tensor, device):
        """Label a tensor's storage. The weak reference keeps its address from being given away."""
        storage = tensor.untyped_storage()
        self._known[storage._cdata] = (StorageWeakRef(storage), device)
        if len(self._known) > self._limit:
            self._known = {key: one for key, one in self._known.items() if not one[0].expired()}
            self._limit = 2 * len(self._known) + 4096

    def knows(self, tensor):
        """Whether the tensor's storage has a label."""
        return tensor.untyped_storage()._cdata in self._known


class _Checked(TorchDispatchMode):
    """Raises where an operation meets tensors of different devices; results are labelled as the arguments."""

    def __init__(self, labels):
        super().__init__()
        self.labels = labels

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        groups = [[a for a in tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor) and not a.is_meta]]
        if func._schema.name.startswith(("aten::_foreach", "aten::_fused_adam")):  # torch sorts by device before
            lists = [a for a in (*args, *kwargs.values()) if isinstance(a, (list, tuple)) and a]
            groups = [list(some) for some in zip(*lists, strict=True) if isinstance(some[0], torch.Tensor)]
        for tensor in (t for group in groups for t in group if not self.labels.knows(t)):
            self.labels.put(tensor, HOST)
        common = [self._common(func, group) for group in groups]
        if kwargs.get("generator") is not None and common and common[0] not in (HOST, _ANYWHERE):
            raise RuntimeError(f"{func}: expected a generator of {common[0]}, but found one of {HOST}")
        out = func(*args, **kwargs)
        device = kwargs.get("device")
        results = [r for r in tree_leaves(out) if isinstance(r, torch.Tensor) and not r.is_meta]
        for i, result in enumerate(results):
            if not self.labels.knows(result):
                own = common[min(i, len(common) - 1)] if common else _ANYWHERE
                self.labels.put(result, device if device is not None and device.index is not None else own)
        return out

    def _common(self, func, tensors):
        devices = [(self.labels.of(t), t.dim()) for t in tensors]
        if func in _COPIES or func in _INDEXED:
            for device, _ in devices[1:]:
                if func in _INDEXED and device not in (HOST, _ANYWHERE, devices[0][0]):
                    raise RuntimeError(f"{func}: indices and values on {device}, the tensor on {devices[0][0]}")
            return devices[0][0]
        wide = {device for device, dims in devices if dims or device != HOST} - {_ANYWHERE}
        if len(wide) > 1:
            named = ", ".join(sorted(map(str, wide)))
            raise RuntimeError(
                f"{func}: expected all tensors to be on the same device, but found at least two devices: {named}"
            )
        return wide.pop() if wide else (HOST if any(device == HOST for device, _ in devices) else _ANYWHERE)


def _mover(labels):
    class Move(torch.autograd.Function):
        """A copy on another device, whose gradient comes back."""

        @staticmethod
        def forward(ctx, tensor, device):
            ctx.source, out = labels.of(tensor), tensor.clone()
            labels.put(out, device)
            return out

        @staticmethod
        def backward(ctx, gradient):
            out = gradient.clone()
            labels.put(out, ctx.source)
            return out, None

    return Move.apply


@contextmanager
def fake_devices():
    """Within the block, labels stand for devices; yields them."""
    labels = Labels()
    move = _mover(labels)

    def to(self, *args, **kwargs):
        copy, other = kwargs.pop("copy", False), next((a for a in args if isinstance(a, torch.Tensor)), None)
        if other is not None:
            device, dtype, layout = labels.of(other), other.dtype, None
        else:
            device, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)
        form = {} if layout is None else {"memory_format": layout}
        out = _real_to(self, dtype or self.dtype, copy=copy, **form)
        if device is None or device == labels.of(self) or labels.floats(self) and device == HOST:
            return out
        return _real_to(out, device) if device.type == "meta" else move(out, device)

    def numpy(self, *args, **kwargs):
        if labels.of(self) not in (HOST, _ANYWHERE):
            raise TypeError(f"cannot convert a tensor on {labels.of(self)} to numpy; copy it to host memory first")
        return torch._C.TensorBase.numpy(self, *args, **kwargs)

    def factory(make):
        @functools.wraps(make)
        def made(*args, **kwargs):
            out = make(*args, **kwargs)
            device = torch.device(kwargs.get("device") or HOST)
            if not out.is_meta and (kwargs.get("device") is not None or labels.of(out) == _ANYWHERE):
                if kwargs.get("generator") is not None and device != HOST:
                    raise RuntimeError(f"{make.__name__}: expected a generator of {device}, found one of {HOST}")
                labels.put(out, device)
            return out

        return made

    _device_constructors()  # kept by torch from its first use on: it must not be that of a block with other factories
    own = {name: getattr(torch, name) for name in _FACTORIES}
    torch.Tensor.device = property(lambda self: HOST if labels.floats(self) else labels.of(self))
    torch.Tensor.to, torch.Tensor.numpy = to, numpy
    torch.Tensor.cpu = lambda self, *args, **kwargs: to(self, HOST)
    for name, make in own.items():
        setattr(torch, name, factory(make))
    try:
        with _Checked(labels):
            yield labels
    finally:
        for name, make in own.items():
            setattr(torch, name, make)
        for name in ("device", "to", "numpy", "cpu"):
            delattr(torch.Tensor, name)


def split_model(model, first=1):
    """Put a transformers model on two fake devices, as `device_map` does: ``first`` layers on the first."""
    layers = {f"model.layers.{i}": FIRST if i < first else SECOND for i in range(len(model.model.layers))}
    rest = {name: SECOND for name in ("model.norm", "lm_head")}
    places = {"model.embed_tokens": FIRST, "model.rotary_emb": FIRST, **layers, **rest}
    return dispatch_model(model, {name: str(device) for name, device in places.items()}, main_device=str(FIRST))


def split(lm, first=1):
    """The same language model (Llama's layout) on two fake devices, ``first`` layers on the first."""
    return LanguageModel(split_model(lm.model, first), lm.tokenizer, name=lm.name)
