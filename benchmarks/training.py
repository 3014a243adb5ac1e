"""The whole training step: images a second and memory, and how both grow with depth.

python benchmarks/training.py [--quick] [--output DIR] ...     the same as `resnet-kernels bench training`
"""

import sys

from resnet_kernels.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["bench", "training"]
    main()
