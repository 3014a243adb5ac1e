"""What the device can do: memory bandwidth, matrix products, launches.

python benchmarks/primitives.py [--quick] [--output DIR] ...     the same as `resnet-kernels bench primitives`
"""

import sys

from resnet_kernels.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["bench", "primitives"]
    main()
