"""Kernels that start before the one in front of them has ended give the bits that they give one by one.

RESNET_KERNELS_PDL=0 starts them one by one; it is read once a process, so each way runs in its own.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

PROGRAM = """
import hashlib, sys
import torch
import resnet_kernels as rk

backend, device, size, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
kind = {"device": device, "dtype": torch.bfloat16, "memory_format": torch.channels_last}
model = rk.models.create("resnet18", num_classes=16).to(**kind)
x = torch.randn(2, 3, size, size).to(**kind)
start = {name: value.clone() for name, value in model.state_dict().items()}
seen = set()
with rk.backend(backend):
    for _ in range(repeats):
        model.load_state_dict(start)
        model.zero_grad()
        loss = model.train()(x).float().square().mean()
        loss.backward()
        with torch.no_grad():
            outputs = [model.eval()(x), *(parameter.grad for parameter in model.parameters())]
        bits = b"".join(value.cpu().view(torch.int16).numpy().tobytes() for value in outputs)
        seen.add(hashlib.sha256(bits).hexdigest())
print(*seen)
"""


def bits(overlap: str, *arguments: str) -> list[str]:
    """The hashes of outputs and gradients of every repetition, each once."""
    code = "import torch; torch.manual_seed(0)\n" + PROGRAM
    environment = {**os.environ, "RESNET_KERNELS_PDL": overlap}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("simulator", "cpu", "32", "1"), id="simulator"),
        pytest.param(("auto", "cuda", "64", "50"), id="cuda", marks=pytest.mark.gpu),
    ],
)
def test_overlap_changes_no_bit(arguments: tuple[str, ...]) -> None:
    alone = bits("0", *arguments)
    assert len(alone) == 1
    assert bits("1", *arguments) == alone


@pytest.mark.gpu
def test_overlap_changes_no_bit_in_a_graph() -> None:
    import resnet_kernels as rk

    model = rk.models.create("resnet18", num_classes=16).eval()
    model = model.to("cuda", torch.bfloat16, memory_format=torch.channels_last)
    x = torch.randn(2, 3, 64, 64, device="cuda", dtype=torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad():
        with torch.cuda.graph(graph):
            y = model(x)
        want = model(x)
        for _ in range(50):
            y.zero_()
            graph.replay()
            assert torch.equal(y, want)
