"""The ceilings' kernels at the size that is measured, where there is a GPU; and what they refuse.

On the simulator they are among `cases`: exact, under every schedule, without a site too many.
"""

from __future__ import annotations

import pytest
import torch

import resnet_kernels as rk
from resnet_kernels import _native
from resnet_kernels.measure.kernel_ceilings import HARDWARE

from . import ceilings
from .problems import operators

BOXES = ("tiled", "im2col", "multicast")


@pytest.fixture
def blocks() -> int:
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("needs a GPU of compute capability 9.0")
    _native.require_cuda()
    return torch.cuda.get_device_properties("cuda").multi_processor_count // 2 * 2


@pytest.mark.gpu
@pytest.mark.parametrize("copies", [1, 9, 100, HARDWARE.copies])
@pytest.mark.parametrize("boxes", BOXES)
def test_feed_on_a_gpu(blocks: int, boxes: str, copies: int) -> None:
    x = ceilings.image(0, HARDWARE.images, 64, HARDWARE.edge, HARDWARE.edge).cuda()
    got, want = ceilings.feed_answer(torch.ops.resnet_kernels, x, boxes, blocks, copies)
    assert torch.equal(got, want)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_matrix_on_a_gpu(blocks: int, precision: str) -> None:
    """Sums of at most 2^20: exact in float32."""
    a, b = ceilings.operands(precision, 0)
    got, want = ceilings.matrix_answer(torch.ops.resnet_kernels, a.cuda(), b.cuda(), blocks, HARDWARE.repeats)
    assert torch.equal(got.double(), want)


@pytest.mark.skipif(not rk.simulator.built(), reason="the simulator is not built")
def test_refusals() -> None:
    _native.simulator()
    run = operators()
    x = ceilings.image(0, 2, 64, 16, 8)
    for wrong, boxes, blocks, copies, reason in (
        (x, "diagonal", 2, 1, "no boxes 'diagonal'"),
        (x.float(), "tiled", 2, 1, "bfloat16"),
        (x[:, :32], "tiled", 2, 1, "channels_last"),
        (x.contiguous(), "tiled", 2, 1, "channels_last"),
        (x[:1, :, :5], "tiled", 1, 1, "whole boxes of 128 pixels"),
        (x, "tiled", 0, 1, "at least 1"),
        (x, "tiled", 2, 0, "at least 1"),
        (x, "tiled", 3, 1, "fewer boxes"),
        (x, "multicast", 3, 1, "even number"),
    ):
        with pytest.raises(RuntimeError, match=reason):
            run.feed_ceiling(wrong, boxes, blocks, copies)
    a, b = ceilings.operands("bf16", 0)
    for left, right, reason in (
        (a, b.float(), "another dtype"),
        (b, a, "must be dense"),
        (a.float(), b.float(), "must be dense"),
        (a.half(), b.half(), "bfloat16, or float32"),
    ):
        with pytest.raises(RuntimeError, match=reason):
            run.matrix_ceiling(left, right, 1, 1)
    with rk.simulator.compute_capability(80), pytest.raises(RuntimeError, match=r"this GPU has 8\.0"):
        run.matrix_ceiling(a, b, 1, 1)
