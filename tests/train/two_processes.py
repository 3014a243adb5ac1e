"""What test_ranks starts with torchrun: runs of one recipe in two processes, each in its own directory.

torchrun --nproc-per-node 2 two_processes.py DIRECTORY
"""

import sys
from pathlib import Path

import torch.distributed as dist
from common import QUIET, SMALL

from resnet_kernels import train

if __name__ == "__main__":
    dist.init_process_group("gloo")
    output = Path(sys.argv[1])
    recipe = SMALL.replaced(synchronised_batchnorm=True)
    train.run(recipe, output / "whole", **QUIET)
    train.run(recipe.replaced(iterations=5), output / "parts", **QUIET)
    train.resume(output / "parts", iterations=recipe.iterations, **QUIET)
    train.run(recipe.replaced(iterations=1), output / "first", **QUIET)
    train.run(recipe.replaced(iterations=1, synchronised_batchnorm=False), output / "alone", **QUIET)
    dist.destroy_process_group()
