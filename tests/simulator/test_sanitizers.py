"""`make sanitize` looks at what it should: a planted overflow in a kernel's input ends the process."""

import os
import subprocess
import sys

import pytest

PLANTED = """
import torch
import resnet_kernels as rk
import resnet_kernels._sim

x, weight = (torch.ones(8, 8, 1, 1).contiguous(memory_format=torch.channels_last) for _ in range(2))
scale = torch.ones(8)
scale.untyped_storage().resize_(8)  # two values where the kernel reads eight
with rk.backend("simulator"):
    rk.ops.conv_bn_act(x, weight, scale, torch.ones(8))
"""


@pytest.mark.skipif("RESNET_KERNELS_SANITIZE" not in os.environ, reason="not under `make sanitize`")
def test_an_overflow_is_found(tmp_path):
    done = subprocess.run([sys.executable, "-c", PLANTED], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
    assert "csrc/tile/affine.h" in done.stderr
