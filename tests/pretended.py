"""A pretended GPU: tensors that say that they are on ``cuda`` and are computed on the processor.

So code for a GPU runs on a machine without one, with the numbers that it should give, and fails where it would there:
where tensors of the two devices meet, and where an array is made of a tensor that was not brought back. Automatic mixed
precision does nothing on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
MEMORY = 2**30
aten = torch.ops.aten
COPY = aten.copy_.default
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)


class OnGPU(torch.Tensor):
    """Says ``cuda``; its numbers are ``held``."""

    held: torch.Tensor
    device = property(lambda self: CUDA)
    is_cuda, is_cpu, is_meta = (property(lambda self, answer=answer: answer) for answer in (True, False, False))

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnGPU:
        with no_dispatch():
            shape = torch.empty_strided(held.shape, held.stride(), dtype=held.dtype, device="meta")
        # Underneath it is on no device: on the way back a tensor on ``cuda`` would start a real GPU.
        made = torch.Tensor._make_subclass(cls, shape, False)
        made.held = held
        return made

    def numpy(self, *, force: bool = False) -> np.ndarray:
        if not force:
            raise TypeError("can't convert a tensor on cuda to an array; use Tensor.cpu() first")
        return self.detach().cpu().numpy()

    def __repr__(self, **_: Any) -> str:
        return f"OnGPU({self.held})"

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _computed(operation, args, kwargs or {})


class Pretended(TorchDispatchMode):
    """Inside, ``device="cuda"`` gives tensors of ``OnGPU``."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return _computed(operation, args, kwargs or {})


def _computed(operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    if operation is aten._fused_sdp_choice.default:
        return 0  # attention by plain products
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, OnGPU)]
    # A single number may come from anywhere, a copy go anywhere, and places on the processor choose from either.
    free = args[1] if operation in INDEXING and isinstance(args[0], OnGPU) else tensors if operation is COPY else ()
    for tensor in tensors if there else ():
        if not isinstance(tensor, OnGPU) and tensor.dim() and not any(tensor is each for each in free):
            raise RuntimeError(f"{operation} of tensors on cuda and {tensor.device}")
    wanted = next((each.type for each in tree_leaves((args, kwargs)) if isinstance(each, torch.device)), None)
    # What is made beside a tensor of ours asks for the device that it has underneath.
    ours = ("cuda",) if torch.get_default_device().type == "meta" else ("cuda", "meta")
    on_gpu = bool(there) if wanted is None else wanted in ours

    def held(value: Any) -> Any:
        if on_gpu and isinstance(value, torch.device):
            return torch.device("cpu")
        return value.held if isinstance(value, OnGPU) else value

    result = operation(*tree_map(held, args), **tree_map(held, kwargs))
    if operation._schema.is_mutable:  # what was changed in place is given back itself
        for tensor in there:
            if (tensor.shape, tensor.stride()) != (tensor.held.shape, tensor.held.stride()):
                with no_dispatch():
                    tensor.as_strided_(tensor.held.shape, tensor.held.stride())
        changed = {id(tensor.held): tensor for tensor in there}
        return tree_map(lambda each: changed.get(id(each), each), result)
    # A view of a tensor from before ``inference_mode`` is one of that kind too.
    with torch.inference_mode(torch.is_inference_mode_enabled() and not (operation.is_view and on_gpu
                                                                        and not args[0].is_inference())):
        return tree_map(lambda each: OnGPU(each) if on_gpu and isinstance(each, torch.Tensor) else each, result)


@pytest.fixture(name="gpu")
def a_gpu(monkeypatch):
    """This machine seems to have a GPU, with bfloat16."""
    told = {"is_available": True, "is_bf16_supported": True, "mem_get_info": (MEMORY, MEMORY), "_lazy_init": None,
            "device_count": 0, "current_device": 0}
    for name, answer in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    monkeypatch.setattr(torch.backends.cudnn, "is_acceptable", lambda tensor: False)
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch._C._ensureCUDADeviceGuardSet()
    torch._C._set_only_lift_cpu_tensors(True)  # so that torch.tensor goes through us
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with Pretended():
            yield CUDA
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_overwrite_module_params_on_conversion(before)
