"""A training step captured in a CUDA graph: replays give the eager steps' bits."""

import contextlib
import copy

import pytest
import torch
from torch import Tensor, nn

import resnet_kernels as rk

from .layers import settled

pytestmark = pytest.mark.gpu
STEPS = 4


def network() -> nn.Module:
    torch.manual_seed(0)
    blocks = (
        rk.nn.ConvBNAct2d(3, 16, 7, 2),
        nn.MaxPool2d(3, 2, 1),
        rk.nn.BasicBlock(16, 16),
        rk.nn.BasicBlock(16, 32, 2, shortcut="A"),
        rk.nn.Bottleneck(32, 16, 2),
    )
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    model = rk.fuse(settled(model)).cuda().train()
    return model.to(memory_format=torch.channels_last)


def batches(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(8, 3, 32, 32, generator=generator).cuda().to(memory_format=torch.channels_last)
        for _ in range(count)
    ]


def precision(kind: str) -> contextlib.AbstractContextManager[object]:
    return torch.autocast("cuda", torch.bfloat16, enabled=kind == "bf16")


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, kind: str) -> Tensor:
    """Gradients are None before it, so that a captured backward writes them and does not accumulate."""
    with precision(kind):
        loss = (model(x).float() - 1).square().mean()
    loss.backward()
    optimizer.step()
    return loss.detach()


def captured(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, kind: str
) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """(graph of a step that reads x, its loss); the model and its buffers are as before."""
    tensors = [*model.parameters(), *model.buffers()]
    before = [t.detach().clone() for t in tensors]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            optimizer.zero_grad()
            step(model, optimizer, x, kind)
    torch.cuda.current_stream().wait_stream(side)
    with torch.no_grad():
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)
    optimizer.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step(model, optimizer, x, kind)
    return graph, loss


@pytest.mark.parametrize("kind", ("f32", "bf16"))
@pytest.mark.parametrize("memory", rk.training.MEMORY)
def test_replay_repeats_eager_bit_for_bit(memory, kind):
    """Losses, parameters, running statistics and the number of batches after several steps."""
    eager = rk.fuse(network(), memory=memory)
    model = copy.deepcopy(eager)
    losses = []
    optimizer = torch.optim.SGD(eager.parameters(), 0.05)
    for x in batches(STEPS):
        optimizer.zero_grad()
        losses.append(step(eager, optimizer, x, kind))
    given = torch.zeros_like(batches(1)[0])
    graph, loss = captured(model, torch.optim.SGD(model.parameters(), 0.05), given, kind)
    for x, wanted in zip(batches(STEPS), losses, strict=True):
        given.copy_(x)
        graph.replay()
        assert torch.equal(loss, wanted)
    for (name, a), b in zip(eager.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_eager_steps_after_replays_use_the_weights_of_then():
    """Replays write parameters without counting versions: no cast from before may be used again."""
    model = network()
    given = torch.zeros_like(batches(1)[0])
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    graph, _ = captured(model, optimizer, given, "bf16")
    for x in batches(STEPS):
        with precision("bf16"):
            y = model(x)
        with precision("bf16"):
            wanted = copy.deepcopy(model)(x)
        assert torch.equal(y, wanted)
        y.float().square().mean().backward()
        given.copy_(x)
        graph.replay()


def test_gradients_accumulate_in_a_graph():
    """A captured forward and backward without an optimizer, replayed over micro-batches."""
    model = network()
    twin = copy.deepcopy(model)
    given = torch.zeros_like(batches(1)[0])
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        model(given).square().mean().backward()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(given).square().mean().backward()
    model.load_state_dict(twin.state_dict())
    for parameter in model.parameters():
        parameter.grad.zero_()
    for x in batches(STEPS):
        given.copy_(x)
        graph.replay()
        twin(x).square().mean().backward()
    for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
    for a, b in zip(model.buffers(), twin.buffers(), strict=True):
        assert torch.equal(a, b)
