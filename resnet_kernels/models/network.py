"""What all of the paper's networks share: a stem, stages of blocks, global average pooling and a classifier.

A whole network in evaluation is operators of this package alone: the stem with its max-pooling is one, every
convolution with BatchNorm, add and ReLU one, global average pooling and the classifier one each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resnet_kernels.nn import Stage, chain, train
from resnet_kernels.nn.check import positive


class Network(chain.Chained):
    """Base of the networks: images [N, 3, H, W] of any size -> logits [N, num_classes].

    A subclass makes its stem and then calls `_assemble`.  A contiguous input is converted to channels_last
    once, on entry; the weights are channels_last.
    """

    CHAIN: tuple[str, ...]  # the children in the order in which they run

    def _assemble(
        self,
        channels: int,
        stages: Sequence[tuple[int, int]],
        make: Callable[[int, int, int], Any],
        num_classes: int,
    ) -> None:
        """Everything behind the stem: layer1, layer2, ..., avgpool and fc; then the initial weights.

        Args:
            channels: C of the stem's output.
            stages: (width, blocks) of each; from the second on a stage's first block halves H and W.
            make: (channels, width, stride) -> a block, whose `expansion` x width is the next one's channels.
            num_classes: length of the output.
        """
        positive(type(self).__name__, "num_classes", num_classes)
        for i, (width, depth) in enumerate(stages):
            blocks = []
            for j in range(depth):
                block = make(channels, width, 2 if i > 0 and j == 0 else 1)
                channels = width * block.expansion
                blocks.append(block)
            setattr(self, f"layer{i + 1}", Stage(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                he_initialise(module)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def rk_chains(self) -> tuple[tuple[str, ...], ...]:
        return (self.CHAIN,)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, num_classes]."""
        if chain.stays_pytorch(self, x):
            return chain.one_by_one(chain.links(self, self.CHAIN), x, None)
        return train.run(self, self.CHAIN, x)


def he_initialise(conv: nn.Conv2d) -> None:
    """He et al. 2015, "Delving deep into rectifiers": normal, std = sqrt(2 / (K R S)), K outputs."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
