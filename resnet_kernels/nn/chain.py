"""A chain of modules, and which of its links one operator can compute together.

The forward of a residual block, of a stem or of an ``nn.Sequential`` is a list of its children called one
after the other, with at most one residual add.  `plan` walks such a list once and groups it into steps:

    conv, bn [, add] [, relu]          -> ops.conv_bn_act              one kernel
    conv, bn, relu, maxpool 3x3/2/1    -> ops.conv_bn_relu_maxpool     one kernel (the stem)
    bn [, add] [, relu]                -> ops.bn_act                   behind a convolution PyTorch computes
    add, relu                          -> ops.bn_act without affine    behind squeeze-and-excitation
    maxpool                            -> ops.max_pool
    avgpool to 1x1 [, flatten]         -> ops.global_avg_pool
    linear behind a flatten            -> ops.linear
    anything else                      -> the module itself, with the reason

The plan is made anew in every call, from the modules as they are then: a hook registered, a convolution
pruned or a BatchNorm exchanged after `fuse` is seen by the next forward, and no cache can go stale.
Global hooks (``register_module_forward_hook``) are not consulted: under them a fused block is one call.

`run` executes the plan in evaluation, train.py in training.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules.batchnorm import _BatchNorm

from resnet_kernels import ops, training

from .synchronised import SyncBatchNorm2d

ADD = "+ shortcut"  # a chain's name for the residual add
FLATTEN = "flatten"  # a chain's name for torch.flatten(x, 1)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
DEVICES = ("cuda", "cpu", "meta")


class Link(NamedTuple):
    """One link: its name relative to the chain's owner; the module, or None for `ADD` and `FLATTEN`."""

    name: str
    module: Any  # an nn.Module whose kind `plan` finds out


class Step(NamedTuple):
    """Links computed together: by ``ops.<operator>``, or, where `operator` is None, one by one by PyTorch."""

    operator: str | None
    links: tuple[Link, ...]
    reason: str | None = None  # why a step that looks fusable is not
    adds: bool = False
    relu: bool = False


# ------------------------------------------------------------------------------------------------------------
# What a single module allows


def untouched(module: nn.Module) -> bool:
    """Whether calling `module` is calling its class's forward: no hooks, no replaced or compiled forward."""
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
        or "_compiled_call_impl" in module.__dict__
    )


def _touched_by(module: nn.Module) -> str:
    if "forward" in module.__dict__:
        return "its forward is replaced"
    if "_compiled_call_impl" in module.__dict__:
        return "it is compiled on its own"
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    kinds = sorted(
        {type(hook).__name__ for hook in hooks if type(hook).__module__.startswith("torch.nn.utils")}
    )
    if kinds:
        return f"it is reparametrized by hooks ({', '.join(kinds)})"
    return "it has hooks"


def _unlike(module: nn.Module, wanted: str) -> str:
    if hasattr(module, "parametrizations"):
        return "its " + ", ".join(getattr(module, "parametrizations", {})) + " is parametrized"
    return f"it is a {type(module).__name__}, not {wanted}"


def _conv_reason(conv: Any) -> str | None:
    """Why no operator computes `conv`, or None."""
    if type(conv) is not nn.Conv2d:
        return _unlike(conv, "nn.Conv2d")
    if not untouched(conv):
        return _touched_by(conv)
    if conv.groups != 1:
        return f"groups={conv.groups}"
    if conv.padding_mode != "zeros":
        return f"padding_mode={conv.padding_mode!r}"
    if isinstance(conv.padding, str):
        return f"padding={conv.padding!r}"
    if conv.bias is not None:
        return "it has a bias of its own before the BatchNorm"
    return None


def _tensor_reason(chain: list[Link]) -> str | None:
    """Why no operator takes the tensors of this chain, judged by its first weight, or None."""
    weight = None
    for link in chain:
        weight = getattr(link.module, "weight", None)
        if weight is not None:
            break
    if not isinstance(weight, Tensor):
        return None
    if weight.dtype not in DTYPES:  # float64 too: PyTorch's modules take it on every device
        return f"weights are {weight.dtype}; kernels take float32, bfloat16 and float16"
    if weight.device.type not in DEVICES:
        return f"weights are on {weight.device}; kernels run on cuda and cpu"
    return None


def is_frozen(module: nn.Module) -> bool:
    return type(module).__name__ == "FrozenBatchNorm2d" and type(module).__module__ == "torchvision.ops.misc"


def is_batchnorm(module: nn.Module | None) -> bool:
    """BatchNorm of any kind: PyTorch's, synchronised, or torchvision's frozen one."""
    return module is not None and (isinstance(module, _BatchNorm) or is_frozen(module))


def _bn_reason(bn: Any, assume_eval: bool, training: bool = False) -> str | None:
    """Why `bn` is not an affine map per channel that an operator applies, or None.

    training: whether what computes it may also take the batch's statistics.
    """
    frozen = False
    if type(bn) not in (nn.BatchNorm2d, nn.SyncBatchNorm, SyncBatchNorm2d):
        frozen = is_frozen(bn)
        if not frozen:
            return _unlike(bn, "nn.BatchNorm2d")
    if not untouched(bn):
        return _touched_by(bn)
    if training and not frozen and (bn.training or bn.running_mean is None):
        return None
    if bn.running_mean is None or bn.running_var is None:
        return "it has no running statistics"
    if not frozen and bn.training and not assume_eval:
        return "it is in training mode"
    return None


def _relu_reason(act: nn.Module) -> str | None:
    if type(act) is not nn.ReLU:
        return _unlike(act, "nn.ReLU")
    return None if untouched(act) else _touched_by(act)


def _pool_reason(pool: nn.MaxPool2d) -> str | None:
    if type(pool) is not nn.MaxPool2d:
        return _unlike(pool, "nn.MaxPool2d")
    if not untouched(pool):
        return _touched_by(pool)
    if pool.dilation not in (1, (1, 1)) or pool.ceil_mode or pool.return_indices:
        return "dilation, ceil_mode or return_indices is set"
    return None


def _linear_reason(linear: nn.Linear) -> str | None:
    if type(linear) is not nn.Linear:
        return _unlike(linear, "nn.Linear")
    return None if untouched(linear) else _touched_by(linear)


def pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    """An int or a pair of ints, as a pair (h, w)."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _is_stem_pool(pool: nn.Module | None) -> bool:
    if not isinstance(pool, nn.MaxPool2d) or _pool_reason(pool) is not None:
        return False
    return pair(pool.kernel_size) == (3, 3) and pair(pool.stride) == (2, 2) and pair(pool.padding) == (1, 1)


def _is_global_avg(pool: nn.Module) -> bool:
    return type(pool) is nn.AdaptiveAvgPool2d and pool.output_size in (1, (1, 1)) and untouched(pool)


def _is_flatten(link: Link) -> bool:
    if link.name == FLATTEN and link.module is None:
        return True
    return type(link.module) is nn.Flatten and (link.module.start_dim, link.module.end_dim) == (1, -1)


def _is_transparent(module: nn.Module, assume_eval: bool) -> bool:
    """Whether the module returns its input unchanged in evaluation."""
    if not untouched(module):
        return False
    if type(module) is nn.Identity:
        return True
    dropout = type(module) in (nn.Dropout, nn.Dropout2d) or (
        type(module).__name__ in ("DropPath", "DropBlock2d") and type(module).__module__.startswith("timm.")
    )
    return dropout and (assume_eval or not module.training)


# ------------------------------------------------------------------------------------------------------------
# From names to links, from links to steps


def _inner(module: nn.Module) -> tuple[str, ...] | None:
    """The children of a container that merely calls them in order, or None."""
    if not untouched(module) or isinstance(module, StageBase):
        return None
    if isinstance(module, nn.Sequential):
        base = getattr(type(module), "_rk_base", type(module))
        return tuple(module._modules) if base.forward is nn.Sequential.forward else None
    if type(module).__name__ == "SelectAdaptivePool2d" and type(module).__module__.startswith("timm."):
        return ("pool", "flatten")
    return None


_PLAIN = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU)  # neither containers nor transparent: most links of a network


def links(
    owner: nn.Module, names: tuple[str, ...], assume_eval: bool = False, prefix: str = ""
) -> list[Link]:
    """The links behind `names`: children of `owner`, `ADD`, `FLATTEN`.

    Containers that merely call their children are opened; what does nothing in evaluation is left out.
    """
    found: list[Link] = []
    children = owner._modules
    for name in names:
        module = children.get(name)
        if module is None:
            if name in (ADD, FLATTEN):
                found.append(Link(name, None))
        elif type(module) in _PLAIN:
            found.append(Link(prefix + name, module))
        elif not _is_transparent(module, assume_eval):
            inner = _inner(module)
            if inner is None:
                found.append(Link(prefix + name, module))
            else:
                found.extend(links(module, inner, assume_eval, prefix + name + "."))
    return found


def plan(
    chain: list[Link],
    shared: frozenset[str] = frozenset(),
    assume_eval: bool = False,
    training: bool = False,
) -> list[Step]:
    """Group `chain` into steps.

    Args:
        chain: from `links`.
        shared: names of modules that stay PyTorch's own because they appear in the network more than once.
        assume_eval: plan for evaluation although BatchNorms are in training mode (for a report).
        training: plan for training, where a BatchNorm behind a fused convolution may take the batch's own
            statistics.
    """
    foreign = _tensor_reason(chain)
    if foreign is not None:
        return [Step(None, (link,), foreign) for link in chain]
    steps: list[Step] = []
    end = Link("", None)
    flat = False  # whether x is known to be [N, C] at this link
    i = 0
    while i < len(chain):
        link = chain[i]
        module = link.module
        after = chain[i + 1] if i + 1 < len(chain) else end
        was_flat, flat = flat, False
        if isinstance(module, nn.Conv2d) or is_batchnorm(module):
            step = _conv_or_bn(chain, i, shared, assume_eval, training)
        elif module is None and link.name == ADD:
            step = _add(chain, i, shared)
        elif isinstance(module, nn.MaxPool2d):
            reason = _pool_reason(module)
            step = Step("max_pool" if reason is None else None, (link,), reason)
        elif module is not None and _is_global_avg(module):
            flat = _is_flatten(after)
            step = Step("global_avg_pool", (link, after) if flat else (link,))
        elif _is_flatten(link):
            flat = True
            step = Step(None, (link,))
        elif isinstance(module, nn.Linear):
            reason = _linear_reason(module) or (None if was_flat else "its input may have any rank")
            flat = was_flat
            step = Step("linear" if reason is None else None, (link,), reason)
        elif isinstance(module, nn.ReLU):
            reason = _named(link, shared, _relu_reason(module)) or "what it follows is not fused"
            step = Step(None, (link,), reason)
        else:
            step = Step(None, (link,))
        steps.append(step)
        i += len(step.links)
    return steps


def _named(link: Link, shared: frozenset[str], reason: str | None) -> str | None:
    if link.name in shared:
        return "it is shared: it appears in the network more than once"
    return reason


def _tail(chain: list[Link], i: int, shared: frozenset[str]) -> tuple[bool, bool]:
    """Whether the links from `i` on are [add] [relu]: (adds, relu), as far as an epilogue can take them."""
    adds = i < len(chain) and chain[i].module is None and chain[i].name == ADD
    i += adds
    act = chain[i].module if i < len(chain) else None
    relu = act is not None and type(act) is nn.ReLU and _named(chain[i], shared, _relu_reason(act)) is None
    return adds, relu


def _add(chain: list[Link], i: int, shared: frozenset[str]) -> Step:
    _, relu = _tail(chain, i, shared)
    if relu:
        return Step("bn_act", tuple(chain[i : i + 2]), None, True, True)
    return Step(None, (chain[i],), None, True)


def _conv_or_bn(chain: list[Link], i: int, shared: frozenset[str], assume_eval: bool, training: bool) -> Step:
    """The step that starts with the convolution or BatchNorm at `i`."""
    first = chain[i]
    if is_batchnorm(first.module):
        reason = _named(first, shared, _bn_reason(first.module, assume_eval))
        adds, relu = _tail(chain, i + 1, shared)
        if reason is None and not (adds or relu):
            reason = "alone: neither convolution, add nor ReLU to compute with it"
        if reason is not None:
            return Step(None, (first,), "BatchNorm: " + reason)
        return Step("bn_act", tuple(chain[i : i + 1 + adds + relu]), None, adds, relu)

    reason = _named(first, shared, _conv_reason(first.module))
    second = chain[i + 1] if i + 1 < len(chain) else Link("", None)
    if reason is None and not is_batchnorm(second.module):
        follower = "nothing" if second.module is None else type(second.module).__name__
        reason = f"no BatchNorm follows it, {follower} does"
    if reason is not None:
        return Step(None, (first,), reason)
    reason = _named(second, shared, _bn_reason(second.module, assume_eval, training))
    if reason is not None:
        return Step(None, (first, second), "its BatchNorm: " + reason)
    adds, relu = _tail(chain, i + 2, shared)
    last = i + 2 + adds + relu
    if relu and not adds and last < len(chain) and _is_stem_pool(chain[last].module):
        return Step("conv_bn_relu_maxpool", tuple(chain[i : last + 1]), None, False, True)
    return Step("conv_bn_act", tuple(chain[i:last]), None, adds, relu)


# ------------------------------------------------------------------------------------------------------------
# Execution


def fused(step: Step, x: Tensor, residual: Tensor | None, residual_stride: int | None = None) -> Tensor:
    """Compute a step that has an operator; `residual_stride` as in `ops.conv_bn_act`, which takes it."""
    module = step.links[0].module
    residual = residual if step.adds else None
    if step.operator in ("conv_bn_act", "conv_bn_relu_maxpool"):
        bn = step.links[1].module
        vectors = bn.weight, bn.bias
        keywords = {
            "mean": bn.running_mean,
            "var": bn.running_var,
            "eps": bn.eps,
            "stride": module.stride,
            "padding": module.padding,
            "dilation": module.dilation,
        }
        if step.operator == "conv_bn_relu_maxpool":
            return ops.conv_bn_relu_maxpool(x, module.weight, *vectors, **keywords)
        keywords["residual_stride"] = residual_stride if step.adds else None
        return ops.conv_bn_act(x, module.weight, *vectors, residual, **keywords, relu=step.relu)
    if step.operator == "bn_act" and module is None:
        return ops.bn_act(x, None, None, residual, relu=step.relu)
    if step.operator == "bn_act":
        keywords = {"mean": module.running_mean, "var": module.running_var, "eps": module.eps}
        return ops.bn_act(x, module.weight, module.bias, residual, **keywords, relu=step.relu)
    if step.operator == "max_pool":
        return ops.max_pool(x, module.kernel_size, module.stride, module.padding)
    if step.operator == "global_avg_pool":
        pooled = ops.global_avg_pool(x)
        return pooled if len(step.links) == 2 else pooled[:, :, None, None]
    if step.operator == "linear":
        return ops.linear(x, module.weight, module.bias)
    raise AssertionError(f"no execution for operator {step.operator!r}")


def one_by_one(chain: list[Link] | tuple[Link, ...], x: Tensor, residual: Tensor | None) -> Tensor:
    """PyTorch's own composition of the links."""
    for link in chain:
        if link.module is not None:
            x = link.module(x)
        elif link.name == ADD:
            assert residual is not None, "a chain with an add is run with a residual"
            x += residual
        else:
            x = torch.flatten(x, 1)
    return x


def stays_pytorch(owner: nn.Module, x: object) -> bool:
    """Whether a call of `owner` with `x` takes PyTorch's own path: traced, or in training without kernels.

    Programs traced by torch.fx or torch.jit are read by tools that know PyTorch's operators: feature
    extraction, quantization, ONNX.  Training is fused where this package's kernels run: on a GPU, or on the
    simulator if that is the chosen backend.
    """
    if isinstance(x, Proxy) or torch.jit.is_tracing():
        return True
    return owner.training and not training.runs_kernels(x)


class Chained(nn.Module):
    """Base of modules whose forward is one or more chains of their children; what `fuse_report` reads."""

    _rk_shared: frozenset[str] = frozenset()  # links that stay PyTorch's own; set by `fuse`
    _rk_memory: str = "save"  # what training keeps for backward, as `training.stage_train`; set by `fuse`

    def rk_chains(self) -> tuple[tuple[str, ...], ...]:
        """The chains, each as names of children, `ADD` and `FLATTEN`."""
        raise TypeError(f"{type(self).__name__} does not say what its chains are")


class Block(Chained):
    """Base of blocks: one chain, with `downsample` on the shortcut if the chain has an `ADD`."""

    downsample: Any  # nn.Module or None

    @classmethod
    def rk_forward(cls) -> Any:
        """The forward with which an object of this class is what its chain says, and can join a stage."""
        raise TypeError(f"{cls.__name__} does not say what its forward is")


class StageBase(Chained):
    """Base of stages: an ``nn.Sequential`` of blocks that is called, not opened."""


def run(
    owner: Chained, names: tuple[str, ...], x: Tensor, residual: Tensor | None = None, zero_pad: Any = None
) -> Tensor:
    """Evaluate the chain `names` of `owner` on `x`: [N, C, H, W], fused where `plan` finds it can be.

    zero_pad: a `ZeroPadShortcut` for the residual, taken into the convolution that adds it.
    """
    for step in plan(links(owner, names), owner._rk_shared):
        skip, stride = residual, None
        if step.adds and zero_pad is not None:
            if step.operator == "conv_bn_act":
                stride = zero_pad.stride
            else:
                skip = zero_pad(residual)
        x = one_by_one(step.links, x, skip) if step.operator is None else fused(step, x, skip, stride)
    return x
