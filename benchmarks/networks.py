"""Inference with whole networks: images a second and latency, by batch.

python benchmarks/networks.py [--quick] [--output DIR] ...     the same as `resnet-kernels bench networks`
"""

import sys

from resnet_kernels.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["bench", "networks"]
    main()
