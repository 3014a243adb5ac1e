"""The command line: resnet-kernels demo | verify | info | models | flops | train | eval | analyze | detect |
bench.

One file a group of commands; each registers with `application.app` when it is imported.
"""

from . import (
    analyze,
    bench,
    counts,
    detect,
    evaluate,
    gaps,
    installed,
    predictions,
    proof,
    terminal,
    train,
    tuned,
)
from .application import app, main

__all__ = [
    "analyze",
    "app",
    "bench",
    "counts",
    "detect",
    "evaluate",
    "gaps",
    "installed",
    "main",
    "predictions",
    "proof",
    "terminal",
    "train",
    "tuned",
]
