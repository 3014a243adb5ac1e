"""Activation checkpointing, and edits of what backward needs: of a layer, a block, a network."""

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import resnet_kernels as rk

from .layers import distance, settled

SHAPE = (4, 3, 16, 16)


class Network(nn.Module):
    """A stem, blocks with every shortcut, pooling and a classifier; `forward` may checkpoint each block."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = rk.nn.ConvBNAct2d(3, 8, 3)
        self.blocks = nn.Sequential(
            rk.nn.BasicBlock(8, 8),
            rk.nn.BasicBlock(8, 12, 2, shortcut="A"),
            rk.nn.Bottleneck(12, 4, 1),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


def layer() -> nn.Module:
    torch.manual_seed(0)
    return rk.nn.ConvBNAct2d(3, 8, 3)


def block() -> nn.Module:
    torch.manual_seed(0)
    return rk.nn.Bottleneck(3, 4)


MODELS: dict[str, Callable[[], nn.Module]] = {"layer": layer, "block": block, "network": Network}


def cumulative(model: nn.Module) -> nn.Module:
    """Running statistics as plain averages over batches: every batch counted twice would show."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
    return model


def whole(model: nn.Module, x: Tensor, reentrant: bool) -> Tensor:
    return checkpoint(model, x, use_reentrant=reentrant)


def in_parts(model: nn.Module, x: Tensor, reentrant: bool) -> Tensor:
    """Every block of a network by itself."""
    y = checkpoint_sequential(model.blocks, 3, model.stem(x), use_reentrant=reentrant)
    return checkpoint(model.head, y, use_reentrant=reentrant)


def assert_same_steps(
    model: nn.Module, forward: Callable[[nn.Module, Tensor], Tensor], tolerance: float = 0.0
) -> None:
    """Two steps by `forward` and without checkpoints: the same gradients, buffers and counts."""
    plain = copy.deepcopy(model)
    for step in range(2):
        x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(step)) + step
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        plain(a).square().sum().backward()
        forward(model, b).square().sum().backward()
        assert distance(b.grad, a.grad) <= tolerance
    for (name, a), b in zip(plain.named_parameters(), model.parameters(), strict=True):
        assert distance(b.grad, a.grad) <= tolerance, name
    for (name, a), b in zip(plain.named_buffers(), model.buffers(), strict=True):
        assert distance(b, a) <= tolerance, name


@pytest.mark.parametrize("memory", rk.training.MEMORY)
@pytest.mark.parametrize("reentrant", (False, True), ids=("saved tensors", "reentrant"))
@pytest.mark.parametrize("name", MODELS)
def test_running_statistics_are_updated_once(name, reentrant, memory, simulator):
    model = rk.fuse(cumulative(settled(MODELS[name]())).train(), memory=memory)
    assert_same_steps(model, lambda model, x: whole(model, x, reentrant))


@pytest.mark.parametrize("reentrant", (False, True), ids=("saved tensors", "reentrant"))
def test_checkpoints_block_by_block(reentrant, simulator):
    """Blocks in one stage sum for BatchNorm's gradient over other tiles than blocks alone."""
    model = rk.fuse(cumulative(settled(Network())).train())
    assert_same_steps(model, lambda model, x: in_parts(model, x, reentrant), 1e-6)


def test_timms_own_checkpointing(simulator):
    """Under it timm calls the stem's modules one by one: PyTorch's, which round otherwise."""
    model = timm.create_model("resnet18", num_classes=5, layers=(1, 1, 1, 1), channels=(8, 8, 8, 8))
    model = rk.fuse(cumulative(settled(model)).train())

    def forward(model: nn.Module, x: Tensor) -> Tensor:
        model.set_grad_checkpointing()
        return model(x)

    assert_same_steps(model, forward, 1e-4)


def test_under_autocast_the_dtype_is_restored(simulator):
    """Recomputed in bfloat16 although backward runs outside of autocast."""
    model = rk.fuse(cumulative(settled(Network())).train())

    def forward(model: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return whole(model, x, False).float()

    plain = copy.deepcopy(model)
    x = torch.randn(SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        y = plain(x).float()
    y.square().sum().backward()
    forward(model, x).square().sum().backward()
    assert all(
        torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), model.parameters(), strict=True)
    )


def edit_input(model: nn.Module, x: Tensor, y: Tensor) -> None:
    x.detach().add_(1)


def edit_weight(model: nn.Module, x: Tensor, y: Tensor) -> None:
    with torch.no_grad():
        next(m for m in model.modules() if isinstance(m, nn.Conv2d)).weight.mul_(2)


def edit_scale(model: nn.Module, x: Tensor, y: Tensor) -> None:
    with torch.no_grad():
        next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).weight.mul_(2)


@pytest.mark.parametrize("edit", (edit_input, edit_weight))
@pytest.mark.parametrize("name", MODELS)
def test_an_edit_before_backward_raises(name, edit, simulator):
    """Written in place between forward and backward: as PyTorch's modules, an error and no wrong gradient."""
    model = rk.fuse(MODELS[name]().train().to(memory_format=torch.channels_last))
    x = torch.randn(SHAPE).contiguous(memory_format=torch.channels_last)
    y = model(x)
    edit(model, x, y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("name", MODELS)
def test_an_edit_of_a_scale_before_backward_changes_nothing(name, simulator):
    """It is kept as forward used it."""
    models = [rk.fuse(MODELS[name]().train()) for _ in range(2)]
    for i, model in enumerate(models):
        x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
        y = model(x)
        if i == 1:
            edit_scale(model, x, y)
        y.square().sum().backward()
    for (parameter, a), b in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), parameter


@pytest.mark.parametrize("name", MODELS)
def test_an_optimizer_step_before_backward_raises(name, simulator):
    model = rk.fuse(MODELS[name]().train().to(memory_format=torch.channels_last))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.randn(SHAPE)).sum().backward()
    y = model(torch.randn(SHAPE))
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("name", MODELS)
def test_two_forwards_before_backward(name, simulator):
    """The second forward moves the running statistics, which the first one's backward does not need."""
    model = rk.fuse(settled(MODELS[name]()).train())
    twin = copy.deepcopy(model)
    x = torch.randn(SHAPE)
    y, z = model(x), model(x + 1)
    (y.square().sum() + z.square().sum()).backward()
    twin(x).square().sum().backward()
    twin(x + 1).square().sum().backward()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-6)
