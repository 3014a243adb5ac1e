"""The occupancy rules against NVIDIA's own calculator, and against figures of its documentation."""

import importlib.util
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from resnet_kernels.measure.occupancy import MULTIPROCESSORS, SM_80, SM_90, occupancy

# Reads "major minor warps blocks threads registers shared" a line and answers with the resident blocks.
ORACLE = r"""
#include <cstdio>
#include "cuda_occupancy.h"
int main() {
  int major, minor, sm_threads, per_sm, optin, threads, registers, shared;
  while (std::scanf("%d %d %d %d %d %d %d %d", &major, &minor, &sm_threads, &per_sm, &optin, &threads,
                    &registers, &shared) == 8) {
    cudaOccDeviceProp device = {};
    device.computeMajor = major;
    device.computeMinor = minor;
    device.maxThreadsPerBlock = 1024;
    device.maxThreadsPerMultiprocessor = sm_threads;
    device.regsPerBlock = device.regsPerMultiprocessor = 65536;
    device.warpSize = 32;
    device.sharedMemPerBlock = 48 * 1024;
    device.sharedMemPerMultiprocessor = per_sm;
    device.sharedMemPerBlockOptin = optin;
    device.reservedSharedMemPerBlock = 1024;
    device.numSms = 132;
    cudaOccFuncAttributes kernel = {};
    kernel.maxThreadsPerBlock = 1024;
    kernel.numRegs = registers;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = shared;
    cudaOccDeviceState state = {};
    state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
    cudaOccResult result;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads, shared) != 0)
      return 1;
    std::printf("%d\n", result.activeBlocksPerMultiprocessor);
  }
}
"""


def header() -> Path | None:
    """The directory of cuda_occupancy.h: CUDA's, PyPI's runtime package's or triton's."""
    spec = importlib.util.find_spec("nvidia")
    places = (
        [Path(place) / "cu13/include" for place in (spec.submodule_search_locations or [])] if spec else []
    )
    triton = importlib.util.find_spec("triton")
    if triton is not None and triton.origin:
        places.append(Path(triton.origin).parent / "backends/nvidia/include")
    if nvcc := shutil.which("nvcc"):
        places.append(Path(nvcc).resolve().parents[1] / "include")
    return next((place for place in places if (place / "cuda_occupancy.h").is_file()), None)


@pytest.mark.parametrize("name", ["sm_80", "sm_86", "sm_89", "sm_90"])
def test_agrees_with_nvidias_calculator(name, tmp_path):
    place, compiler = header(), shutil.which("c++")
    if place is None or compiler is None:
        pytest.skip("no cuda_occupancy.h, or no C++ compiler")
    (tmp_path / "oracle.cpp").write_text(ORACLE)
    command = [compiler, "-w", "-O0", f"-I{place}", "oracle.cpp", "-o", "oracle"]
    subprocess.run(command, cwd=tmp_path, check=True)
    sm, draw = MULTIPROCESSORS[name], random.Random(7)
    kernels = []
    for _ in range(3000):
        threads = draw.choice([32, 64, 128, 192, 256, 384, 512, 1024, draw.randint(1, 1024)])
        shared = draw.choice([0, draw.randint(0, 48 * 1024), draw.randint(0, sm.shared - 1024)])
        kernels.append((threads, draw.randint(1, 255), shared))
    machine = f"{name[3]} {name[4]} {sm.warps * 32} {sm.shared} {sm.shared - 1024}"
    lines = "".join(f"{machine} {threads} {regs} {shared}\n" for threads, regs, shared in kernels)
    answered = subprocess.run([tmp_path / "oracle"], input=lines, capture_output=True, text=True, check=True)
    wanted = [int(line) for line in answered.stdout.split()]
    assert len(wanted) == len(kernels)
    assert [occupancy(sm, *kernel).blocks for kernel in kernels] == wanted


def test_what_runs_out():
    assert occupancy(SM_90, 128, 168, 96 * 1024).limit == "shared memory"
    assert occupancy(SM_90, 128, 168, 96 * 1024).blocks == 2
    assert occupancy(SM_90, 128, 168, 0).limit == "registers"
    assert occupancy(SM_90, 256, 32, 0).limit == "warps"
    assert occupancy(SM_90, 256, 32, 0).share == 1
    assert occupancy(SM_90, 32, 32, 0).limit == "blocks"


def test_what_cannot_be_launched_has_no_blocks():
    assert occupancy(SM_80, 128, 64, 164 * 1024).blocks == 0  # 163 KiB is the most on an A100
    assert occupancy(SM_80, 128, 64, 163 * 1024).blocks == 1
    assert occupancy(SM_80, 1024, 128, 0).blocks == 0


@pytest.mark.parametrize(
    ("sizes", "word"), [((0, 32, 0), "threads"), ((32, 256, 0), "registers"), ((32, 32, -1), "shared")]
)
def test_impossible_sizes(sizes, word):
    with pytest.raises(ValueError, match=word):
        occupancy(SM_90, *sizes)
