"""A simulated device without float64, as Apple's GPUs are: its tensors hold CPU numbers and refuse what MPS refuses.

    lm = on_device(tiny_lm("llama"))

Its type is registered in Python, so that a tensor on it is on another device than the CPU's: an
operation on both is an error, as on a real GPU (but for numbers without dimensions, and indices), and so is a tensor in
float64 on it, at its creation or by a conversion, also one on the way to the CPU. It does not show which of torch's
operations the real device lacks, nor its rounding.
"""

from functools import partial

import torch
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend as _setup

from editbench.model.language_model import LanguageModel

TYPE = "simulated"
_INDEXING = ("aten::index.Tensor", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
_COPYING = ("aten::_to_copy", "aten::copy_", "aten::_copy_from", "aten::copy")


class _Module:
    """What torch asks of a device's module; nobody is to choose the device by himself."""

    is_available = staticmethod(lambda: False)
    is_initialized = staticmethod(lambda: True)
    _is_in_bad_fork = staticmethod(lambda: False)
    current_device = staticmethod(lambda: 0)
    device_count = staticmethod(lambda: 1)
    manual_seed_all = staticmethod(lambda seed: None)


class OnDevice(torch.Tensor):
    """A tensor on the device; ``numbers`` are on the CPU."""

    @staticmethod
    def __new__(cls, numbers):
        if numbers.dtype in (torch.float64, torch.complex128):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        how = {"dtype": numbers.dtype, "strides": numbers.stride(), "storage_offset": numbers.storage_offset()}
        return torch.Tensor._make_wrapper_subclass(cls, numbers.shape, device=f"{TYPE}:0", requires_grad=False, **how)

    def __init__(self, numbers):
        self.numbers = numbers

    def __deepcopy__(self, memo):
        return type(self)(self.numbers.clone())

    def __repr__(self):
        return f"OnDevice({self.numbers!r})"

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.tolist:
            return args[0].numbers.tolist()
        return torch._C._disabled_torch_function_impl(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, *args, **(kwargs or {}))


def _run(func, *args, **kwargs):
    """Run an operation on the CPU's numbers, if the device could."""
    name, tensors = func._schema.name, [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    here = [x for x in tensors if isinstance(x, OnDevice)]
    away = [x for x in tensors if not isinstance(x, OnDevice) and x.dim()]
    if here and away and name not in _COPYING and not (name in _INDEXING and isinstance(args[0], OnDevice)):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found {TYPE}:0 and cpu")
    given = kwargs.get("device")
    stays = bool(here) if given is None else torch.device(given).type == TYPE
    if here and kwargs.get("dtype") == torch.float64:
        raise TypeError(f"{name}: Cannot convert a MPS Tensor to float64 dtype")
    if name in ("aten::copy_", "aten::_copy_from"):
        target, source = args[:2] if name == "aten::copy_" else args[1::-1]
        if isinstance(source, OnDevice) and target.dtype == torch.float64:
            raise TypeError(f"{name}: Cannot convert a MPS Tensor to float64 dtype")
    if given is not None:
        kwargs["device"] = "cpu"
    plain = tree_map(lambda x: x.numbers if isinstance(x, OnDevice) else x, (args, kwargs))
    found = func(*plain[0], **plain[1])
    if name == "aten::_copy_from":
        return args[1]
    own = {id(x.numbers): x for x in here}  # an operation in place gives its own tensor

    def wrapped(x):
        if not (isinstance(x, torch.Tensor) and stays):
            return x
        return own[id(x)] if id(x) in own else OnDevice(x)

    return tree_map(wrapped, found) if name != "aten::copy_" else args[0]


# At import: torch's autograd counts the devices when it first runs. The libraries must stay.
_setup(rename=TYPE, backend_module=_Module())
_every, _aten = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
_every.fallback(_run, "PrivateUse1")
_aten.impl("_to_copy", partial(_run, torch.ops.aten._to_copy.default), "PrivateUse1")  # torch.tensor(…, device=…)


def on_device(lm):
    """A language model on the simulated device, with the weights and buffers of ``lm``, which is used up."""
    for module in lm.model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            module._parameters[name] = torch.nn.Parameter(OnDevice(parameter.data), requires_grad=False)
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = OnDevice(buffer)
    return LanguageModel(lm.model, lm.tokenizer, name=lm.name)
