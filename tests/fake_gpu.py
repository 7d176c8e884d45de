"""A fake GPU: tensors whose device is ``cuda`` and which are computed on the processor.

Code for a GPU then runs on a machine without one, with the numbers that it should give, and fails where it would fail
on a GPU: where tensors of the two devices meet, and where an array is made from a tensor on the GPU. Automatic mixed
precision has no effect.
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
    """A tensor whose device is ``cuda``; its numbers are in ``held``, on the processor."""

    held: torch.Tensor
    device = property(lambda self: CUDA)
    is_cuda, is_cpu, is_meta = (property(lambda self, value=value: value) for value in (True, False, False))

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnGPU:
        with no_dispatch():
            shape = torch.empty_strided(held.shape, held.stride(), dtype=held.dtype, device="meta")
        # Its own device is meta: in the backward pass a tensor on ``cuda`` would start a real GPU.
        tensor = torch.Tensor._make_subclass(cls, shape, False)
        tensor.held = held
        return tensor

    def numpy(self, *, force: bool = False) -> np.ndarray:
        if not force:
            raise TypeError("can't convert a tensor on cuda to an array; use Tensor.cpu() first")
        return self.detach().cpu().numpy()

    def __repr__(self, **_: Any) -> str:
        return f"OnGPU({self.held})"

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _computed(operation, args, kwargs or {})


class FakeGPUMode(TorchDispatchMode):
    """Inside, ``device="cuda"`` gives tensors of ``OnGPU``."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return _computed(operation, args, kwargs or {})


def _computed(operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    if operation is aten._fused_sdp_choice.default:
        return 0  # attention by plain products
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    on_fake = [tensor for tensor in tensors if isinstance(tensor, OnGPU)]
    # Scalars, copies between devices and indices on the processor are allowed, as on a GPU.
    free = args[1] if operation in INDEXING and isinstance(args[0], OnGPU) else tensors if operation is COPY else ()
    for tensor in tensors if on_fake else ():
        if not isinstance(tensor, OnGPU) and tensor.dim() and not any(tensor is other for other in free):
            raise RuntimeError(f"{operation} of tensors on cuda and {tensor.device}")
    requested = next((leaf.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)), None)
    # A tensor created like one of ours asks for its own device, meta.
    ours = ("cuda",) if torch.get_default_device().type == "meta" else ("cuda", "meta")
    on_gpu = bool(on_fake) if requested is None else requested in ours

    def held(value: Any) -> Any:
        if on_gpu and isinstance(value, torch.device):
            return torch.device("cpu")
        return value.held if isinstance(value, OnGPU) else value

    result = operation(*tree_map(held, args), **tree_map(held, kwargs))
    if operation._schema.is_mutable:  # an operation in place returns its argument
        for tensor in on_fake:
            if (tensor.shape, tensor.stride()) != (tensor.held.shape, tensor.held.stride()):
                with no_dispatch():
                    tensor.as_strided_(tensor.held.shape, tensor.held.stride())
        changed = {id(tensor.held): tensor for tensor in on_fake}
        return tree_map(lambda value: changed.get(id(value), value), result)
    # A view of a tensor from before ``inference_mode`` is one of that kind too.
    with torch.inference_mode(torch.is_inference_mode_enabled() and not (operation.is_view and on_gpu
                                                                        and not args[0].is_inference())):
        return tree_map(lambda value: OnGPU(value) if on_gpu and isinstance(value, torch.Tensor) else value, result)


@pytest.fixture(name="gpu")
def a_gpu(monkeypatch):
    """Make torch report a GPU with bfloat16."""
    reported = {"is_available": True, "is_bf16_supported": True, "mem_get_info": (MEMORY, MEMORY), "_lazy_init": None,
            "device_count": 0, "current_device": 0}
    for name, value in reported.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    monkeypatch.setattr(torch.backends.cudnn, "is_acceptable", lambda tensor: False)
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch._C._ensureCUDADeviceGuardSet()
    torch._C._set_only_lift_cpu_tensors(True)  # so that torch.tensor goes through us
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with FakeGPUMode():
            yield CUDA
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_overwrite_module_params_on_conversion(before)
