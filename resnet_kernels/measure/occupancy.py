"""How many blocks of a kernel are resident on one multiprocessor at once: the CUDA occupancy rules.

Four things run out, whichever first: slots for blocks, slots for warps, registers and shared memory.
Registers are allocated to a warp in units of 256, out of the quarter of the register file that belongs to the
warp's scheduler; shared memory to a block in units of 128 bytes, with 1 KiB on top that the driver keeps.

Source: CUDA C++ Programming Guide, "Compute Capabilities" (technical specifications by capability) and the
CUDA Occupancy Calculator, whose header `cuda_occupancy.h` the tests compare this with.
"""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32  # threads
REGISTER_UNIT = 256  # registers a warp
SHARED_UNIT = 128  # bytes a block
RESERVED = 1024  # bytes of shared memory that the driver keeps of each block's
SCHEDULERS = 4  # of a multiprocessor, each with a quarter of the register file
MOST_REGISTERS = 255  # that one thread can name


@dataclass(frozen=True)
class Multiprocessor:
    """What one multiprocessor has: warps and blocks it can hold, 32-bit registers, bytes of shared memory."""

    name: str
    warps: int
    blocks: int
    registers: int
    shared: int


SM_80 = Multiprocessor("sm_80", warps=64, blocks=32, registers=65536, shared=164 * 1024)  # A100
SM_86 = Multiprocessor("sm_86", warps=48, blocks=16, registers=65536, shared=100 * 1024)  # RTX 30
SM_89 = Multiprocessor("sm_89", warps=48, blocks=24, registers=65536, shared=100 * 1024)  # RTX 40
SM_90 = Multiprocessor("sm_90", warps=64, blocks=32, registers=65536, shared=228 * 1024)  # H100, H200
MULTIPROCESSORS = {sm.name: sm for sm in (SM_80, SM_86, SM_89, SM_90)} | {"sm_90a": SM_90}


@dataclass(frozen=True)
class Occupancy:
    """Resident blocks of one multiprocessor; `warps` of the `most` it can hold; what runs out first."""

    blocks: int
    warps: int
    most: int
    limit: str  # "blocks", "warps", "registers" or "shared memory"

    @property
    def share(self) -> float:
        """Resident warps over the most there can be."""
        return self.warps / self.most


def occupancy(sm: Multiprocessor, threads: int, registers: int, shared: int) -> Occupancy:
    """Blocks of `threads` threads with `registers` each and `shared` bytes (static and dynamic) a block.

    A kernel that asks for more than a multiprocessor has gets 0 blocks: it cannot be launched.
    Raises ValueError for sizes that no kernel can have.
    """
    if not 1 <= threads <= 1024:
        raise ValueError(f"occupancy: threads must be in 1..1024, got {threads}")
    if not 1 <= registers <= MOST_REGISTERS:
        raise ValueError(f"occupancy: registers must be in 1..{MOST_REGISTERS}, got {registers}")
    if shared < 0:
        raise ValueError(f"occupancy: shared must not be negative, got {shared}")
    warps = -(-threads // WARP)
    a_warp = _round_up(registers * WARP, REGISTER_UNIT)
    resident = sm.registers // SCHEDULERS // a_warp * SCHEDULERS
    # A launch is checked as if the block's warps filled whole rounds of the schedulers.
    fits = a_warp * _round_up(warps, SCHEDULERS) <= sm.registers
    limits = {
        "warps": sm.warps // warps,
        "blocks": sm.blocks,
        "registers": resident // warps if fits else 0,
        "shared memory": sm.shared // _round_up(shared + RESERVED, SHARED_UNIT),
    }
    limit = min(limits, key=lambda name: limits[name])
    return Occupancy(limits[limit], limits[limit] * warps, sm.warps, limit)


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
