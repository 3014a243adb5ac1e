"""The command line: resnet-kernels demo | verify | info | models | flops.

One file a group of commands; each registers with `application.app` when it is imported.
"""

from . import counts, installed, proof, terminal
from .application import app, main

__all__ = ["app", "counts", "installed", "main", "proof", "terminal"]
