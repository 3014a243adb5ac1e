"""How fast the simulator itself is, on one core of this machine: `make bench`.

Processor time, so that other work on the machine does not count.  Says nothing about a GPU.
"""

from rich.console import Console
from rich.table import Table

import resnet_kernels as rk

ROWS = {
    "switch_ns": "a lane's switch at a warp-wide instruction, ns",
    "mma_gflops": "tile product through cp.async, ldmatrix and mma, GFLOP/s",
    "wgmma_gflops": "tile product through tensor copies and wgmma, GFLOP/s",
    "fma_gflops": "ptx::fma on shared memory, GFLOP/s",
    "copy_gbytes": "16-byte copies through global memory, GB/s",
}


def main() -> None:
    table = Table("on one core", "fast build", "checked build", title="The simulator's own speed")
    fast, checked = rk.simulator.benchmark(), rk.simulator.benchmark(checked=True)
    for key, meaning in ROWS.items():
        table.add_row(meaning, f"{fast[key]:.2f}", f"{checked[key]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
