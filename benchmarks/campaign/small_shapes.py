"""Every operator and a training step on small, awkward shapes, for compute-sanitizer to watch.

    compute-sanitizer --tool memcheck python -m benchmarks.campaign.small_shapes
    python -m benchmarks.campaign.small_shapes --backend simulator      without a GPU

The results are compared with PyTorch's own composition, so that what is watched is also right.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import resnet_kernels as rk
from resnet_kernels.measure.precision import float32_products

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32, "tf32": torch.float32}
TOLERANCE = {"bf16": 4e-2, "f16": 5e-3, "f32": 1e-4, "tf32": 5e-3}  # relative L2, sums of a few hundred terms
# N, C, H, W, K, kernel, stride, padding, dilation: whole tiles, cut tiles, odd channels, holes, one pixel.
CONVOLUTIONS = (
    (2, 64, 9, 8, 128, 3, 1, 1, 1),
    (3, 72, 7, 6, 136, 1, 1, 0, 1),
    (1, 128, 8, 8, 64, 1, 2, 0, 1),
    (2, 16, 12, 11, 24, 3, 2, 1, 1),
    (1, 5, 9, 7, 3, 3, 1, 2, 2),
    (1, 8, 1, 1, 8, 3, 1, 1, 1),
)
Call = Callable[[], list[Tensor]]


def problems(dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Call]]:
    """(name, a call that gives the results)."""
    torch.manual_seed(0)  # of the blocks' weights
    drawn = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        value = torch.randn(shape, generator=drawn).to(device, dtype)
        return value.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else value

    def vector(size: int) -> Tensor:
        return (torch.rand(size, generator=drawn) + 0.5).to(device)

    for n, c, h, w, k, kernel, stride, padding, dilation in CONVOLUTIONS:
        geometry = {"stride": stride, "padding": padding, "dilation": dilation}
        x, weight = draw(n, c, h, w), draw(k, c, kernel, kernel) / (c * kernel * kernel) ** 0.5
        size = rk.reference.output_size
        residual = draw(n, k, *(size(side, kernel, stride, padding, dilation) for side in (h, w)))
        more = {"mean": vector(k), "var": vector(k), **geometry}
        operands = (x, weight, vector(k), vector(k), residual)
        name = f"conv {tuple(x.shape)} * {tuple(weight.shape)}"
        yield name, lambda o=operands, m=more: [rk.ops.conv_bn_act(*o, **m)]
    image, stem = draw(2, 3, 45, 38), draw(64, 3, 7, 7) / 12
    affine = vector(64), vector(64)
    window = {"stride": 2, "padding": 3}
    yield "stem", lambda: [rk.ops.conv_bn_relu_maxpool(image, stem, *affine, **window)]
    for channels in (64, 13):
        x, residual = draw(2, channels, 9, 7), draw(2, channels, 9, 7)
        affine = vector(channels), vector(channels)
        weight, bias = draw(21, channels) / channels**0.5, vector(21)
        yield f"bn_act {channels}", lambda o=(x, *affine, residual): [rk.ops.bn_act(*o)]
        yield f"max_pool {channels}", lambda x=x: [rk.ops.max_pool(x, 3, 2, 1)]
        yield (
            f"pool and linear {channels}",
            lambda x=x, w=weight, b=bias: [rk.ops.linear(rk.ops.global_avg_pool(x), w, b)],
        )
    blocks = {
        "bottleneck": (rk.nn.Bottleneck(64, 16), draw(2, 64, 9, 8)),
        "bottleneck/2": (rk.nn.Bottleneck(32, 16, stride=2), draw(2, 32, 9, 8)),
        "basic/2": (rk.nn.BasicBlock(16, 24, stride=2), draw(2, 16, 11, 8)),
    }
    for name, (block, x) in blocks.items():
        block = block.to(device, dtype, memory_format=torch.channels_last).train()
        yield f"train {name}", lambda b=block, x=x: step(copy.deepcopy(b), x.clone())


def step(block: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of the input and of every parameter."""
    x.requires_grad_()
    y = block(x)
    y.float().square().sum().div(16).backward()
    return [y, x.grad, *(parameter.grad for parameter in block.parameters())]


def distance(got: Tensor, want: Tensor) -> float:
    """Relative L2; NaN where one of them has NaN."""
    got, want = got.detach().double(), want.detach().double()
    return float((got - want).norm() / want.norm().clamp_min(1e-12))


def main() -> int:
    """Run all; 1 if a result is off."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="cuda", choices=["cuda", "simulator"])
    options = parser.parse_args()
    device = torch.device("cuda" if options.backend == "cuda" else "cpu")
    wrong = total = 0
    for name, dtype in DTYPES.items():
        with float32_products(tf32=name == "tf32"):
            for problem, call in problems(dtype, device):
                with rk.backend(options.backend):
                    ours = call()
                with rk.backend("aten"), float32_products(tf32=False):
                    peers = call()
                errors = [distance(a, b) for a, b in zip(ours, peers, strict=True)]
                total += 1
                if not max(errors) <= TOLERANCE[name] * (4 if problem.startswith("train") else 1):
                    wrong += 1
                    print(f"{name} {problem}: relative L2 error {max(errors):.1e}", flush=True)
    if device.type == "cuda":
        torch.cuda.synchronize()
    print(f"{total} problems, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
