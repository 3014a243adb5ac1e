"""Faster R-CNN on a residual network, as section 4.3 and appendix A of the paper build it.

    image -> conv1 .. conv4_x (stride 16, shared) -> region proposals
                                                  -> RoI pooling 14x14 -> conv5_x -> average pool
                                                     -> class scores and box regression

conv5_x and the average pooling take the place of VGG-16's two hidden fully connected layers.  BatchNorm is an
affine map of fixed statistics, so that every convolution with its BatchNorm, add and ReLU is one operator of
this package, in evaluation and, where kernels run, in training.  Everything around the network (proposals,
matching, losses, suppression) is torchvision's.  Proposals and detections are trained jointly, not in the
four alternating steps of the original.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign, roi_pool

from resnet_kernels.models import ResNet
from resnet_kernels.nn import chain, train
from resnet_kernels.nn.check import one_of, positive

STRIDE = 16  # of the shared features on the image
SHARED = ("layer1", "layer2", "layer3")
POOLINGS = ("max", "align")
DTYPES = ("float32", "bfloat16")


class _Part(chain.Chained):
    """Some of a network's children in their order, in mixed precision if `dtype` is not float32.

    What comes out is float32: boxes need more than bfloat16's eight bits, so the rest computes in float32.
    """

    CHAIN: tuple[str, ...]

    def __init__(self, network: ResNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        for name in self.CHAIN:
            if name != chain.FLATTEN:
                setattr(self, name, getattr(network, name))

    def rk_chains(self) -> tuple[tuple[str, ...], ...]:
        return (self.CHAIN,)

    def forward(self, x: Tensor) -> Tensor:
        if self.dtype == torch.float32:
            return self._run(x)
        with torch.autocast(x.device.type, self.dtype):
            return self._run(x).float()

    def _run(self, x: Tensor) -> Tensor:
        if chain.stays_pytorch(self, x):
            return chain.one_by_one(chain.links(self, self.CHAIN), x, None)
        return train.run(self, self.CHAIN, x)


class SharedFeatures(_Part):
    """conv1 to conv4_x: images [N, 3, H, W] -> [N, out_channels, H/16, W/16]."""

    CHAIN = (*ResNet.STEM, *SHARED)

    def __init__(self, network: ResNet, dtype: torch.dtype) -> None:
        super().__init__(network, dtype)
        self.out_channels = _channels(network.layer3)


class RegionFeatures(_Part):
    """conv5_x and average pooling: pooled regions [R, C, h, w] -> [R, out_channels]."""

    CHAIN = ("layer4", "avgpool", chain.FLATTEN)

    def __init__(self, network: ResNet, dtype: torch.dtype) -> None:
        super().__init__(network, dtype)
        self.out_channels = _channels(network.layer4)


class RoIMaxPool(MultiScaleRoIAlign):
    """RoI pooling as Fast R-CNN defines it, the maximum of each cell, from the one map there is."""

    def __init__(self, size: int) -> None:
        super().__init__(["0"], size, sampling_ratio=-1)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: Any) -> Tensor:
        return roi_pool(x["0"], boxes, self.output_size, 1 / STRIDE)


class Detector(FasterRCNN):
    """torchvision's Faster R-CNN whose BatchNorms stay in evaluation mode, their affine maps fixed.

    ``model(images, targets)`` in training mode gives the four losses, ``model(images)`` in evaluation mode
    a dict of "boxes" [D, 4] (x0, y0, x1, y1 in pixels), "labels" [D] and "scores" [D] for each image.
    """

    def train(self, mode: bool = True) -> Detector:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def faster_rcnn(
    network: ResNet,
    num_classes: int,
    *,
    anchor_sizes: Sequence[int] = (64, 128, 256, 512),
    min_size: int = 600,
    max_size: int = 1000,
    roi_size: int = 14,
    pooling: str = "max",
    proposals: int = 300,
    regions: int = 128,
    dtype: str = "float32",
) -> Detector:
    """Faster R-CNN with `network` in the place of VGG-16; takes over `network`'s modules.

    Args:
        network: any `ResNet` of this package, with the weights and the statistics to start from.
        num_classes: how many kinds of object, without the background.
        anchor_sizes: sides of the anchors' squares in pixels; each in the aspect ratios 1:2, 1:1 and 2:1.
        min_size, max_size: an image is scaled until its shorter side has `min_size` pixels or its longer one
            `max_size`.
        roi_size: cells a side of a pooled region; conv5_x halves them.
        pooling: "max", the paper's RoI pooling, or "align", bilinear samples (Mask R-CNN's).
        proposals: regions an image in evaluation (appendix A: 300).
        regions: regions an image in training.
        dtype: what the network computes in: "float32", or "bfloat16", in mixed precision.

    Raises:
        ValueError, TypeError: an argument is out of range; the message names it.
    """
    if not isinstance(network, ResNet):
        raise TypeError(f"faster_rcnn: network must be a ResNet, got {type(network).__name__}")
    one_of("faster_rcnn", "pooling", pooling, POOLINGS)
    one_of("faster_rcnn", "dtype", dtype, DTYPES)
    sides = {f"anchor_sizes[{i}]": side for i, side in enumerate(anchor_sizes)}
    for name, value in {
        "num_classes": num_classes,
        "roi_size": roi_size,
        "min_size": min_size,
        **sides,
    }.items():
        positive("faster_rcnn", name, value)
    shared, head = (Part(network, getattr(torch, dtype)) for Part in (SharedFeatures, RegionFeatures))
    for part in (shared, head):
        for module in part.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
    pool = RoIMaxPool(roi_size) if pooling == "max" else MultiScaleRoIAlign(["0"], roi_size, 2)
    return Detector(
        shared,
        min_size=min_size,
        max_size=max_size,
        rpn_anchor_generator=AnchorGenerator((tuple(anchor_sizes),), ((0.5, 1.0, 2.0),)),
        rpn_post_nms_top_n_test=proposals,
        box_roi_pool=pool,
        box_head=head,
        box_predictor=FastRCNNPredictor(head.out_channels, num_classes + 1),
        box_nms_thresh=0.3,
        box_batch_size_per_image=regions,
        size_divisible=STRIDE,
    )


@torch.no_grad()
def measure_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give every BatchNorm of `network` the mean and variance over `batches` of images [N, 3, H, W].

    The paper does so after pre-training, before the statistics are fixed; for random weights it keeps
    activations at the scale that He's initialisation assumes.  The affine maps are left alone.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.training) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    for batch in batches:
        network(batch)
    for norm, (momentum, training) in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.train(training)


def _channels(stage: Any) -> int:
    """C of a stage's output."""
    return [module for module in stage.modules() if isinstance(module, nn.BatchNorm2d)][-1].num_features
