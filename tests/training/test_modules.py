"""Networks of modules in training: what is fused and what not, compile, memory, and a report that agrees."""

import copy
from collections import Counter

import pytest
import timm
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import resnet, resnet50

import resnet_kernels as rk
from resnet_kernels.nn.report import FUSED_TRAINING

from .layers import distance, settled


def small(block=resnet.BasicBlock) -> nn.Module:
    """torchvision's ResNet with one block a stage."""
    torch.manual_seed(0)
    return settled(resnet.ResNet(block, [1, 1, 1, 1], num_classes=10)).train()


class Ours(nn.Sequential):
    """This package's blocks with the three kinds of shortcut."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        blocks = (
            rk.nn.BasicBlock(16, 16),
            rk.nn.BasicBlock(16, 24, 2, shortcut="A"),
            rk.nn.Bottleneck(24, 8, 2, stride_in="1x1"),
            rk.nn.Bottleneck(32, 8, shortcut="C"),
        )
        super().__init__(rk.nn.ConvBNAct2d(3, 16, 3), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())


NETWORKS = {
    "basic": small,
    "bottleneck": lambda: small(resnet.Bottleneck),
    "ours": lambda: settled(Ours()).train(),
    "timm": lambda: settled(timm.create_model("resnet18", num_classes=10, drop_path_rate=0.0)).train(),
    "timm se": lambda: settled(timm.create_model("seresnet50", num_classes=10, layers=(1, 1, 1, 1))).train(),
}


def step(model: nn.Module, x: torch.Tensor, machine: str) -> torch.Tensor:
    """The logits; gradients are left in the parameters."""
    model.zero_grad()
    with rk.backend(machine):
        y = model(x)
        (y.double() * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    return y.detach()


class Calls(TorchDispatchMode):
    """Counts calls of this package's operators."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        namespace, name = func.name().split("::")
        if namespace == "resnet_kernels":
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def calls(model: nn.Module, x: torch.Tensor) -> Counter[str]:
    """The operators of one training step on the simulator."""
    with Calls() as counted:
        step(model, x, "simulator")
    return counted.found


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_as_pytorchs(name, simulator):
    """Logits, every gradient and every buffer beside float64 and beside PyTorch's float32."""
    model, x = NETWORKS[name](), torch.randn(4, 3, 32, 32)
    ours, wide = rk.fuse(copy.deepcopy(model)), copy.deepcopy(model).double()
    y, z, ref = (step(*a) for a in ((ours, x, "simulator"), (model, x, "auto"), (wide, x.double(), "auto")))
    assert distance(y, ref) <= max(4 * distance(z, ref), 1e-5)
    rows = zip(ours.named_parameters(), model.parameters(), wide.parameters(), strict=True)
    for (parameter, a), b, want in rows:
        error, peer = distance(a.grad, want.grad), distance(b.grad, want.grad)
        assert error <= max(4 * peer, 2e-4), f"{parameter}: {error:.1e}, PyTorch {peer:.1e}"
    for (buffer, a), want in zip(ours.named_buffers(), wide.buffers(), strict=True):
        assert distance(a, want) <= 1e-5, buffer


def test_on_a_cpu_nothing_changes():
    model, x = small(), torch.randn(2, 3, 32, 32)
    fused = rk.fuse(copy.deepcopy(model))
    assert torch.equal(step(fused, x, "auto"), step(model, x, "auto"))
    assert all(
        torch.equal(a.grad, b.grad) for a, b in zip(fused.parameters(), model.parameters(), strict=True)
    )


def test_what_the_report_says_is_what_is_launched(simulator):
    model = rk.fuse(small())
    report = rk.fuse_report(model)
    assert report.kernels and report.trained_convolutions == 12 == report.convolutions
    assert "In training mode now: 12 of 12 convolutions fused" in report.summary()
    found = calls(model, torch.randn(2, 3, 32, 32))
    assert found["conv_fprop_stats"] == found["bn_finalize"] == found["bn_backward_finalize"] == 12
    assert found["bn_backward_apply"] == 1  # the stem: no gradient passes through its convolution
    assert found["conv_wgrad"] == found["conv_dgrad"] + 1 == 13  # the classifier's too; none of the image
    assert found["bn_backward_reduce"] == 1 + 4  # the stem, and each stage with its projection
    with rk.backend("aten"):
        assert "In training mode now: PyTorch's composition" in rk.fuse_report(model).summary()


def test_a_hook_keeps_its_block_with_pytorch(simulator):
    """The hooked convolution's unit is PyTorch's, the others stay fused, and the hook is called."""
    model, x = rk.fuse(small()), torch.randn(4, 3, 32, 32)
    called = []
    model.layer2[0].conv1.register_forward_hook(lambda *_: called.append(1))
    reference = copy.deepcopy(rk.unfuse(copy.deepcopy(model)))
    y, z = step(model, x, "simulator"), step(reference, x, "auto")
    assert len(called) == 2
    torch.testing.assert_close(y, z, rtol=1e-4, atol=1e-4)
    rows = [row for row in rk.fuse_report(model).rows if "layer2.0.conv1" in row.layers]
    assert [row.training for row in rows] != [FUSED_TRAINING]


def test_frozen_batchnorms_inside_training(simulator):
    """model.train() with the BatchNorms in eval(): running statistics are constants, gradients flow."""
    model, x = small(), torch.randn(4, 3, 32, 32)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    ours = rk.fuse(copy.deepcopy(model))
    found = calls(copy.deepcopy(ours), x)
    assert found["conv_fprop_stats"] == found["bn_backward_finalize"] == 12 and found["conv_wgrad"] == 13
    y, z = step(ours, x, "simulator"), step(model, x, "auto")
    torch.testing.assert_close(y, z, rtol=1e-4, atol=1e-4)
    for (name, a), b in zip(ours.named_parameters(), model.parameters(), strict=True):
        assert distance(a.grad, b.grad) <= 1e-4, name
    for a, b in zip(ours.buffers(), model.buffers(), strict=True):
        assert torch.equal(a, b)


def test_float64_trains_with_pytorch(simulator):
    model = rk.fuse(small().double())
    y = step(model, torch.randn(2, 3, 32, 32, dtype=torch.float64), "simulator")
    assert y.dtype == torch.float64


def test_compiled_training(fresh, simulator):
    """fullgraph, the same bits as eager, and one compilation for all batch sizes after the second."""
    model = rk.fuse(small())
    eager = copy.deepcopy(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 3, 32, 32)
    y = step(compiled, x, "simulator")
    assert torch.equal(y, step(eager, x, "simulator"))
    for (name, a), b in zip(model.named_parameters(), eager.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
    for a, b in zip(model.buffers(), eager.buffers(), strict=True):
        assert torch.equal(a, b)
    step(compiled, torch.randn(3, 3, 32, 32), "simulator")
    graphs = counters["stats"]["unique_graphs"]
    for n in (5, 6):
        step(compiled, torch.randn(n, 3, 32, 32), "simulator")
    assert counters["stats"]["unique_graphs"] == graphs


def bytes_of(kind: str, n: int) -> int:
    """What ResNet-50 keeps at 224 x 224 under bfloat16 autocast; nothing is computed."""
    with FakeTensorMode(), torch.autocast("cpu", torch.bfloat16):
        model = resnet50().train()
        if kind != "eager":
            model = rk.fuse(model, memory=kind)
        x = torch.randn(n, 3, 224, 224).contiguous(memory_format=torch.channels_last)
        with rk.backend("auto" if kind == "eager" else "simulator"):
            return rk.training.saved_bytes(model, x)


def test_saved_memory_of_resnet50():
    """Of what eager PyTorch keeps, weights cast by autocast included: at most 0.80, 0.50 with "recompute"."""
    eager, save, recompute = (bytes_of(kind, 128) for kind in ("eager", "save", "recompute"))
    print(f"eager {eager / 1e6:.0f} MB, save {save / eager:.3f} of it, recompute {recompute / eager:.3f}")
    assert save <= 0.80 * eager
    assert recompute <= 0.50 * eager


def test_fuse_takes_the_memory_mode(simulator):
    model, x = small(resnet.Bottleneck), torch.randn(2, 3, 32, 32)
    save, recompute = rk.fuse(copy.deepcopy(model)), rk.fuse(copy.deepcopy(model), memory="recompute")
    assert rk.training.saved_bytes(recompute, x) < rk.training.saved_bytes(save, x)
    save, recompute = rk.fuse(copy.deepcopy(model)), rk.fuse(copy.deepcopy(model), memory="recompute")
    assert torch.equal(step(save, x, "simulator"), step(recompute, x, "simulator"))
    assert all(
        torch.equal(a.grad, b.grad) for a, b in zip(save.parameters(), recompute.parameters(), strict=True)
    )
    with pytest.raises(ValueError, match="memory must be one of 'save', 'recompute', got 'less'"):
        rk.fuse(model, memory="less")
