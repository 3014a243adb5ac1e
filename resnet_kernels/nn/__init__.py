"""Layers, residual blocks, and `fuse`, which puts existing networks on this package's operators."""

from .blocks import BasicBlock, Bottleneck, PlainBlock
from .fusing import fuse, unfuse
from .layers import ConvBNAct2d, ProjectionShortcut
from .report import FuseReport, Row, fuse_report
from .stage import Stage
from .synchronised import SyncBatchNorm2d, convert_sync_batchnorm
from .zero_pad import ZeroPadShortcut

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "ConvBNAct2d",
    "FuseReport",
    "PlainBlock",
    "ProjectionShortcut",
    "Row",
    "Stage",
    "SyncBatchNorm2d",
    "ZeroPadShortcut",
    "convert_sync_batchnorm",
    "fuse",
    "fuse_report",
    "unfuse",
]
