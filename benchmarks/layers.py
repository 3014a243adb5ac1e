"""Every distinct convolution of the paper's networks, and what runs between them, against peers and ceilings.

python benchmarks/layers.py [--quick] [--output DIR] ...     the same as `resnet-kernels bench layers`
"""

import sys

from resnet_kernels.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["bench", "layers"]
    main()
