"""Training of a chain of modules on fused operators, forward and backward.

`run` and `run_block` are what the modules of this package call: in evaluation they are `chain.run`; in
training, and in an evaluation that is differentiated where kernels run, they walk the same plan.
Convolutions with BatchNorm and ReLU that follow one another become one `training.Residual`, a residual block
one with its shortcut inside; stage.py joins the blocks of a stage.  What has no fused training is computed by
the module itself, as in evaluation.  statistics.py moves the running statistics.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from resnet_kernels import training
from resnet_kernels.training import ConvBN, Identity, Residual, ZeroPad

from . import chain
from .chain import Chained, Step
from .statistics import count_batch, group_of, update
from .zero_pad import ZeroPadShortcut


class _Skip(NamedTuple):
    """What a chain's add adds: `residual` if it is there, otherwise `module` of `x` (None: `x` itself)."""

    x: Tensor
    module: Any  # nn.Module or None
    residual: Tensor | None

    def tensor(self) -> Tensor:
        if self.residual is not None:
            return self.residual
        return self.x if self.module is None else self.module(self.x)


def run(owner: Chained, names: tuple[str, ...], x: Tensor, residual: Tensor | None = None) -> Tensor:
    """The chain `names` of `owner` on `x`: [N, C, H, W]; `residual` is what its add adds."""
    if owner.training or _wants_gradients(owner, names, x, residual):
        return _train(owner, names, x, _Skip(x, None, residual))
    return chain.run(owner, names, x, residual)


def run_block(owner: Chained, names: tuple[str, ...], x: Tensor, downsample: nn.Module | None) -> Tensor:
    """The chain `names` of `owner` on `x`, whose add adds `downsample` of `x`, or `x` itself."""
    if owner.training or _wants_gradients(owner, names, x, None, downsample):
        return _train(owner, names, x, _Skip(x, downsample, None))
    if type(downsample) is ZeroPadShortcut and chain.untouched(downsample):
        return chain.run(owner, names, x, x, downsample)
    return chain.run(owner, names, x, x if downsample is None else downsample(x))


def _wants_gradients(
    owner: Chained,
    names: tuple[str, ...],
    x: Tensor,
    residual: Tensor | None,
    downsample: nn.Module | None = None,
) -> bool:
    """Whether an evaluation is to be differentiated where kernels run: a backbone with frozen BatchNorms."""
    if not torch.is_grad_enabled():
        return False
    wanted = x.requires_grad or (residual is not None and residual.requires_grad)
    modules = [link.module for link in chain.links(owner, names) if link.module is not None]
    wanted = wanted or any(p.requires_grad for m in modules for p in m.parameters(recurse=False))
    wanted = wanted or (downsample is not None and any(p.requires_grad for p in downsample.parameters()))
    return wanted and training.runs_kernels(x)


def _train(owner: Chained, names: tuple[str, ...], x: Tensor, skip: _Skip) -> Tensor:
    steps = chain.plan(chain.links(owner, names), owner._rk_shared, training=True)
    fused: list[Step] = []  # the convolutions since the last thing that was computed
    for i, step in enumerate(steps):
        if step.operator == "conv_bn_act":
            fused.append(step)
            goes_on = i + 1 < len(steps) and steps[i + 1].operator == "conv_bn_act"
            if step.adds or not goes_on:
                x = _chain(fused, x, skip if step.adds else None, len(fused) == i + 1, owner._rk_memory)
                fused = []
        elif step.operator is None:
            x = chain.one_by_one(step.links, x, skip.tensor() if step.adds else None)
        else:
            x = _step(step, x, skip, owner._rk_memory)
    return x


def _chain(steps: list[Step], x: Tensor, skip: _Skip | None, whole: bool, memory: str) -> Tensor:
    """The steps as one `training.Residual`; `whole`: they start where the skip does."""
    inside = _inside(skip.module) if skip is not None and whole and skip.residual is None else None
    part = Joined(steps, inside)
    residual = part.layers()
    if skip is not None and inside is None:
        residual = residual._replace(shortcut=skip.tensor())
    x, running = training.stage_train(x, (residual,), memory=memory)
    update(part.norms(), running[0])
    return x


class Joined(NamedTuple):
    """A whole block as one `training.Residual`."""

    steps: list[Step]
    shortcut: Any  # `Identity`, `ZeroPad`, a `Step`, or None without an add

    def layers(self) -> Residual:
        """Its tensors; counts the batch in every BatchNorm."""
        layers = [_layer(step) for step in self.steps]
        inside = _layer(self.shortcut) if isinstance(self.shortcut, Step) else self.shortcut
        return Residual(layers, inside)

    def norms(self) -> list[Any]:
        """The BatchNorms, the shortcut's last."""
        steps = [*self.steps, self.shortcut] if isinstance(self.shortcut, Step) else self.steps
        return [step.links[1].module for step in steps]


def joined(block: chain.Block) -> Joined | None:
    """The block for `training.stage_train`, or None if a part of it has no fused training."""
    steps = chain.plan(chain.links(block, block.rk_chains()[0]), block._rk_shared, training=True)
    adds = [step.adds for step in steps]
    if not steps or any(step.operator != "conv_bn_act" for step in steps) or any(adds[:-1]):
        return None
    if not adds[-1]:
        return Joined(steps, None)
    shortcut = _inside(block.downsample)
    return None if shortcut is None else Joined(steps, shortcut)


def _inside(module: Any) -> Any:
    """A shortcut that a fused block takes in: `Identity`, `ZeroPad`, a `Step`; None: `module` is called."""
    if module is None:
        return Identity()
    if not chain.untouched(module):
        return None
    if type(module) is ZeroPadShortcut:
        return ZeroPad(module.stride)
    if not isinstance(module, Chained) or len(module.rk_chains()) != 1:
        return None
    steps = chain.plan(chain.links(module, module.rk_chains()[0]), module._rk_shared, training=True)
    if len(steps) == 1 and steps[0].operator == "conv_bn_act" and not (steps[0].adds or steps[0].relu):
        return steps[0]
    return None


def _layer(step: Step) -> ConvBN:
    """The convolution and the BatchNorm of a step; counts the batch, as the BatchNorm's own forward would."""
    conv, norm = step.links[0].module, step.links[1].module
    momentum, mean, var = 0.0, norm.running_mean, norm.running_var
    batch_stats = norm.training and not chain.is_frozen(norm)
    if batch_stats:
        if norm.track_running_stats:
            momentum = count_batch(norm)
        else:
            mean = var = None
    elif mean is None:
        batch_stats = True
    return ConvBN(
        weight=conv.weight,
        gamma=norm.weight,
        beta=norm.bias,
        running_mean=mean,
        running_var=var,
        batch_stats=batch_stats,
        momentum=momentum,
        eps=norm.eps,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        relu=step.relu,
        process_group=group_of(norm) if norm.training else None,
    )


def _step(step: Step, x: Tensor, skip: _Skip, memory: str) -> Tensor:
    """A step of one operator that is no part of a chain of convolutions."""
    module = step.links[0].module
    if step.operator == "conv_bn_relu_maxpool":
        pool = step.links[-1].module
        x = _chain([step], x, None, True, memory)
        return training.max_pool_train(x, pool.kernel_size, pool.stride, pool.padding)
    if step.operator == "max_pool":
        return training.max_pool_train(x, module.kernel_size, module.stride, module.padding)
    if step.operator == "global_avg_pool":
        pooled = training.global_avg_pool_train(x)
        return pooled if len(step.links) == 2 else pooled[:, :, None, None]
    if step.operator == "linear":
        return training.linear_train(x, module.weight, module.bias)
    return chain.fused(step, x, skip.tensor() if step.adds else None)
