"""What a residual block's training step moves: ``unique`` activation bytes on the checked simulator.

Per element E1 = N H W w of the inner width, in bfloat16 (two bytes); a mask is 1/16 of its tensor.
Blocks with identity shortcuts.  Reads and writes, pass by pass, y_i and a_i being convolution i's output and
its activation; * where block grain has the same:

  Bottleneck at stage grain: a middle block                             at block grain
  conv1 of norm + residual y3' 4, x' 4 -> x 4, mask 1/4, y1 1    13.25   x 4 -> y1 1                      5
  bn_apply                 y1 1 -> a1 1                           2      *                                2
  conv2                    a1 1 -> y2 1                           2      *                                2
  conv3 of norm            y2 1 -> y3 4                           5      *                                5
  bn_normalise             (the next block's conv1)                      y3 4, x 4 -> out 4, mask 1/4    12.25
  bn_backward_reduce       (the next block's dgrad1)                     g 4, mask 1/4, y3 4              8.25
  dgrad3 of bn gradient    g 4, y3 4 -> dy3 4; y2 1 -> h2 1      14      and the mask 1/4                14.25
  wgrad3 of norm           dy3 4, y2 1                            5      *                                5
  bn_backward_apply        h2 1, y2 1 -> dy2 1                    3      *                                3
  dgrad2                   dy2 1; y1 1 -> h1 1                    3      *                                3
  wgrad2 of norm           dy2 1, y1 1                            2      *                                2
  dgrad1 of bn gradient    h1 1, y1 1 -> dy1 1; g 4, mask 1/4,           h1 1, y1 1 -> dy1 1; g 4,
                           y3' 4 -> g' 4                         15.25   mask 1/4 -> dx 4                11.25
  wgrad1                   dy1 1, x 4                             5      *                                5
                                                    69.5 = 139 bytes                       78 = 156 bytes

  BasicBlock at stage grain: a middle block                             at block grain
  bn_normalise             y2' 1, x' 1 -> x 1, mask 1/16          3.06   y2 1, x 1 -> out 1, mask 1/16    3.06
  conv1                    x 1 -> y1 1                            2      *                                2
  bn_apply                 y1 1 -> a1 1                           2      *                                2
  conv2                    a1 1 -> y2 1                           2      *                                2
  bn_backward_reduce       (the next block's dgrad1)                     g 1, mask 1/16, y2 1             2.06
  bn_backward_apply        g 1, y2 1 -> dy2 1                     3      and the mask 1/16                3.06
  dgrad2                   dy2 1; y1 1 -> h1 1                    3      *                                3
  wgrad2 of norm           dy2 1, y1 1                            2      *                                2
  bn_backward_apply        h1 1, y1 1 -> dy1 1                    3      *                                3
  dgrad1                   dy1 1; g 1, mask 1/16, y2' 1 -> g' 1   4.06   dy1 1; g 1, mask 1/16 -> dx 1    3.06
  wgrad1                   dy1 1, x 1                             2      *                                2
                                                  26.125 = 52.25 bytes                  27.25 = 54.5 bytes

On sm_90 a 3x3's weight gradient reads what another bn_apply wrote, because on load each of nine taps would
normalise again: wgrad2 of norm becomes y1 1 -> a1 1 and dy2 1, a1 1, 4 bytes more in every column.

With ``on_load=False``, epilogue fusion alone, a Bottleneck's 1x1 convolutions read what elementwise passes
wrote: conv1 y3' 4, x' 4 -> x 4, mask 1/4 and x 4 -> y1 1 (17.25 for 13.25); conv3 y2 1 -> a2 1 and a2 1 ->
y3 4 (7 for 5); dgrad3 g 4, y3 4 -> dy3 4 and dy3 4, y2 1 -> h2 1 (18 for 14); dgrad1 h1 1, y1 1 -> dy1 1 and
dy1 1, g 4, mask 1/4, y3' 4 -> g' 4 (16.25 for 15.25): 80.5 = 161 bytes.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import resnet_kernels as rk
from resnet_kernels.training import ConvBN, Identity, Residual, stage_train

SECTOR = 32
N, SIZE, WIDTH = 2, 12, 32
E1 = N * SIZE**2 * WIDTH
# Partial sums and weights are no activations, whatever these kernels call what they read.
NO_ACTIVATIONS = ("reduce_statistics", "reduce_splits", "krsc_to_crsk", "bn_finalize", "bn_backward_finalize")


def block(kind: str) -> Residual:
    """An identity block of the inner width `WIDTH`."""
    outer = WIDTH if kind == "basic" else 4 * WIDTH
    plan = [(outer, WIDTH, 3), (WIDTH, outer, 3)]
    if kind == "bottleneck":
        plan = [(outer, WIDTH, 1), (WIDTH, WIDTH, 3), (WIDTH, outer, 1)]
    layers = []
    for c, k, r in plan:
        weight = (torch.randn(k, c, r, r) / (c * r * r) ** 0.5).bfloat16().requires_grad_()
        gamma, beta = torch.ones(k).requires_grad_(), torch.zeros(k).requires_grad_()
        layers.append(ConvBN(weight, gamma, beta, padding=r // 2))
    return Residual(layers, Identity())


def image(kind: str) -> Tensor:
    x = torch.randn(N, WIDTH if kind == "basic" else 4 * WIDTH, SIZE, SIZE).bfloat16()
    return x.contiguous(memory_format=torch.channels_last)


def moved(kind: str, blocks: int, on_load: bool = True) -> dict[str, float]:
    """Bytes of activations read and written in one step of a stage, per element E1, by kernel."""
    x = image(kind).requires_grad_()
    stage = [block(kind) for _ in range(blocks)]
    g = image(kind)
    with rk.backend("simulator"), rk.simulator.checked(), rk.simulator.record() as launches:
        stage_train(x, stage, on_load=on_load)[0].backward(g)
    found: dict[str, float] = {}
    for launch in launches:
        name = launch["kernel"]
        if name.split()[0] in NO_ACTIVATIONS:
            continue
        roles = [launch["global"][role] for role in ("activation", "output")]
        sectors = sum(role["unique_read"] + role["unique_written"] for role in roles)
        found[name] = found.get(name, 0.0) + sectors * SECTOR / E1
    return found


@pytest.mark.parametrize(
    "kind,bytes_an_element,on_load",
    (("bottleneck", 139.0, True), ("bottleneck", 161.0, False), ("basic", 52.25, True)),
)
def test_a_middle_block_at_stage_grain(kind: str, bytes_an_element: float, on_load: bool) -> None:
    """What one more block adds to a stage of two."""
    two, three = moved(kind, 2, on_load), moved(kind, 3, on_load)
    added = sum(three.values()) - sum(two.values())
    print(f"{kind} at stage grain: {added:.2f} bytes per element E1, planned {bytes_an_element}")
    assert abs(added - bytes_an_element) <= 0.05 * bytes_an_element, three


@pytest.mark.parametrize("kind,bytes_an_element", (("bottleneck", 156.0), ("basic", 54.5)))
def test_a_block_at_block_grain(kind: str, bytes_an_element: float) -> None:
    found = moved(kind, 1)
    total = sum(found.values())
    print(f"{kind} at block grain: {total:.2f} bytes per element E1, planned {bytes_an_element}")
    assert abs(total - bytes_an_element) <= 0.05 * bytes_an_element, found


@pytest.mark.parametrize(
    "kind,in_a_stage,alone",
    (("bottleneck", 143.0, 160.0), ("basic", 56.25, 58.5)),
    ids=("bottleneck", "basic"),
)
def test_with_the_weight_gradients_of_sm_90(kind: str, in_a_stage: float, alone: float) -> None:
    """Which blocks as small as these do not take by themselves."""
    with rk.tuning.forced("sm90/wgrad"):
        one, two, three = (moved(kind, blocks) for blocks in (1, 2, 3))
    assert any(name.startswith("conv_wgrad_tma") for name in one)
    assert not any(name.startswith("conv_wgrad ") for name in one)
    added = sum(three.values()) - sum(two.values())
    print(f"{kind}: {added:.2f} in a stage, {sum(one.values()):.2f} alone, planned {in_a_stage}, {alone}")
    assert added == pytest.approx(in_a_stage, rel=0.01), three
    assert sum(one.values()) == pytest.approx(alone, rel=0.01), one
