"""Synchronised BatchNorm: in training the batches of all processes are normalised as one.

`torch.nn.SyncBatchNorm` is taken too, but on a CPU neither it nor DistributedDataParallel around it runs.
"""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from resnet_kernels import training

from .statistics import count_batch, group_of, update

Model = TypeVar("Model", bound=nn.Module)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` whose batch in training is that of all processes together: [N, C, H, W].

    N may differ between the processes, or be 0 in some.  In evaluation, in one process alone and before
    ``torch.distributed.init_process_group`` it is the plain BatchNorm.  Behind a convolution in a layer or
    block of this package it is fused as the plain one is, with one gather of 2 C + 1 numbers in forward and
    one sum of 2 C in backward.  Gradients of weight and bias are this process's, as DistributedDataParallel
    expects them.

    Args:
        process_group: of torch.distributed; None for all processes.  Copies and pickles do not take it along
            (it cannot leave its process): they hold None.
        others: those of `torch.nn.BatchNorm2d`.
    """

    def __init__(self, num_features: int, *args: Any, process_group: Any = None, **kwargs: Any) -> None:
        super().__init__(num_features, *args, **kwargs)
        self.process_group = process_group

    def forward(self, input: Tensor) -> Tensor:
        group = group_of(self) if self.training else None
        if group is None:
            return super().forward(input)
        self._check_input_dim(input)
        tracked = self.track_running_stats
        y, running = training.sync_batch_norm_train(
            input,
            self.weight,
            self.bias,
            self.running_mean if tracked else None,
            self.running_var if tracked else None,
            momentum=count_batch(self) if tracked else 0.0,
            eps=self.eps,
            process_group=group,
        )
        update([self], [running])
        return y

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "process_group": None}


def convert_sync_batchnorm(model: Model, process_group: Any = None) -> Model:
    """Make every ``nn.BatchNorm2d`` and ``nn.SyncBatchNorm`` of `model` a `SyncBatchNorm2d`, in place.

    The same module objects, parameters, buffers, keys and hooks, before or after `fuse`.  Other kinds of
    BatchNorm (1-d, 3-d, subclasses) stay as they are, with a warning that names them.

    Args:
        process_group: whose batches are normalised as one; None for all processes.

    Returns:
        `model` itself.

    Raises:
        TypeError: `model` is not an ``nn.Module``.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"convert_sync_batchnorm: model must be a torch.nn.Module, got {type(model).__name__}"
        )
    for name, module in model.named_modules():
        if type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm, SyncBatchNorm2d):
            module.__class__ = SyncBatchNorm2d
            module.process_group = process_group
        elif isinstance(module, _BatchNorm):
            warnings.warn(
                f"convert_sync_batchnorm: {name or 'the model'} is a {type(module).__name__} and keeps the "
                "statistics of its own process",
                stacklevel=2,
            )
    return model
