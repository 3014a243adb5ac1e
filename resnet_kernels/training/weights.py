"""Weights as the kernels take them: in the activations' dtype and channels_last, copied once a step.

Float32 master weights under autocast are cast in forward.  The copy is kept while gradients accumulate, so
that the micro-batches of one optimizer step share it.  It is used again only if

* the parameter has a gradient: nothing has been zeroed to None since, and it is no buffer that FSDP refills;
* autograd's version counter and the storage are those of the copy: nothing was written in place;
* no `torch.optim.Optimizer` has stepped (``fused=True`` writes without counting versions);
* it is the same stream, none is being captured, and autocast's cache is not switched off.

In a captured step the cast is part of the graph, and replays change parameters unseen: a parameter that took
part in a capture is cast in every call from then on.  So are all in a compiled program, under
``memory="recompute"``, and once an optimizer's step has been compiled.  What nothing sees is a write through
``.data`` without an optimizer: `forget_weights` is for that.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.weak import WeakIdKeyDictionary

from ..backend import traced_constant


class _Copy(NamedTuple):
    value: Tensor
    version: int
    storage: StorageWeakRef
    stream: int


_copies: WeakIdKeyDictionary = WeakIdKeyDictionary()  # parameter -> its copy
_captured: WeakIdKeyDictionary = WeakIdKeyDictionary()  # parameters, as keys, whose copies are never kept
_keeping = True


def as_computed(weight: Tensor, x: Tensor) -> Tensor:
    """``weight`` as the kernels take it beside ``x``."""
    return weight.to(x.dtype).contiguous(memory_format=torch.channels_last)


def kept_as_computed(weight: Tensor, x: Tensor) -> Tensor:
    """`as_computed`, the same copy as long as the parameter is known not to have changed."""
    if torch.compiler.is_compiling() or not (_keeping and weight.is_leaf and weight.requires_grad):
        return as_computed(weight, x)
    if weight.is_cuda and torch.cuda.is_current_stream_capturing():
        _captured[weight] = True
        _copies.pop(weight, None)
    elif weight in _copies and _holds(_copies[weight], weight, x):
        return _copies[weight].value
    value = as_computed(weight, x)
    if value is not weight and weight not in _captured and torch.is_autocast_cache_enabled():
        _watch_optimizers()
        storage = StorageWeakRef(weight.untyped_storage())
        _copies[weight] = _Copy(value, weight._version, storage, _stream(weight))
    return value


def forget_weights() -> None:
    """Cast every weight anew in the next forward: for parameters written through ``.data``."""
    _copies.clear()


def _holds(copy: _Copy, weight: Tensor, x: Tensor) -> bool:
    return (
        weight.grad is not None
        and copy.value.dtype == x.dtype
        and copy.version == weight._version
        and copy.storage == StorageWeakRef(weight.untyped_storage())
        and copy.stream == _stream(weight)
        and torch.is_autocast_cache_enabled()
    )


def _stream(weight: Tensor) -> int:
    return torch.cuda.current_stream(weight.device).cuda_stream if weight.is_cuda else 0


@functools.cache
def _watch_optimizers() -> None:
    """From now on every step of any optimizer ends the copies' life, and frees them."""

    def stepped(*_: Any) -> None:
        if torch.compiler.is_compiling():
            _keep_no_more()
        else:
            forget_weights()

    register_optimizer_step_post_hook(stepped)


@traced_constant
def _keep_no_more() -> bool:
    """Called while an optimizer's step is being compiled, because what is compiled calls no hook."""
    global _keeping
    _keeping = False
    forget_weights()
    return True
