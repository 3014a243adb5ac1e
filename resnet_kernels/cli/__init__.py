"""The command line: resnet-kernels demo | verify | info | models | flops | train | eval | analyze.

One file a group of commands; each registers with `application.app` when it is imported.
"""

from . import analyze, counts, evaluate, installed, proof, terminal, train
from .application import app, main

__all__ = ["analyze", "app", "counts", "evaluate", "installed", "main", "proof", "terminal", "train"]
