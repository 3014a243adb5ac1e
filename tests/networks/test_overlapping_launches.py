"""Kernels that start before the one in front of them has ended give the bits that they give one by one.

RESNET_KERNELS_PDL=0 starts them one by one; it is read once a process, so each way runs in its own.  Networks
as small as these would mostly take kernels that do not overlap: the configuration is forced.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import resnet_kernels as rk

CONFIGURATION = "sm90/128x128"  # of any convolution in a 16-bit type but the stem
PROGRAM = f"""
import hashlib, sys
import torch
import resnet_kernels as rk

backend, device, size, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.manual_seed(0)
kind = {{"device": device, "dtype": torch.bfloat16, "memory_format": torch.channels_last}}
model = rk.models.create("resnet18", num_classes=16).to(**kind)
x = torch.randn(2, 3, size, size).to(**kind)
start = {{name: value.clone() for name, value in model.state_dict().items()}}
seen = set()
with rk.backend(backend), rk.tuning.forced("{CONFIGURATION}"):
    for _ in range(repeats):
        model.load_state_dict(start)
        model.zero_grad()
        model.train()(x).float().square().mean().backward()
        with torch.no_grad():
            outputs = [model.eval()(x), *(parameter.grad for parameter in model.parameters())]
        bits = b"".join(value.cpu().view(torch.int16).numpy().tobytes() for value in outputs)
        seen.add(hashlib.sha256(bits).hexdigest())
print(*seen)
"""

hopper = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0),
    reason="needs a GPU of compute capability 9.0",
)


def bits(overlap: str, *arguments: str) -> list[str]:
    """The hashes of outputs and gradients of every repetition, each once."""
    environment = {**os.environ, "RESNET_KERNELS_PDL": overlap}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.gpu
@hopper
def test_overlap_changes_no_bit() -> None:
    alone = bits("0", "cuda", "cuda", "64", "50")
    assert len(alone) == 1
    assert bits("1", "cuda", "cuda", "64", "50") == alone


def test_the_program_repeats_itself() -> None:
    """On the simulator, which runs kernels one by one: that the program above runs, and to the same bits."""
    assert len(bits("1", "simulator", "cpu", "32", "2")) == 1


@pytest.mark.gpu
@hopper
def test_a_graph_replays_what_is_launched() -> None:
    kind = {"device": "cuda", "dtype": torch.bfloat16, "memory_format": torch.channels_last}
    model = rk.models.create("resnet18", num_classes=16).eval().to(**kind)
    x = torch.randn(2, 3, 64, 64).to(**kind)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), rk.backend("cuda"), rk.tuning.forced(CONFIGURATION):
        want = model(x)  # and all that happens once
        with torch.cuda.graph(graph):
            y = model(x)
        for _ in range(50):
            y.zero_()
            graph.replay()
            assert torch.equal(y, want)


@pytest.mark.gpu
@hopper
def test_what_is_neither_0_nor_1_is_refused() -> None:
    with pytest.raises(AssertionError, match="RESNET_KERNELS_PDL is 'off'; it must be 0 or 1"):
        bits("off", "cuda", "cuda", "64", "1")
