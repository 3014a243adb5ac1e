"""Automatic mixed precision: float32 master weights, their casts, and the scaling of float16 gradients."""

import copy

import pytest
import torch
from torch import nn

import resnet_kernels as rk
from resnet_kernels.training import saved_bytes, weights

from .layers import settled

X = torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(0)).contiguous(
    memory_format=torch.channels_last
)


@pytest.fixture(autouse=True)
def nothing_kept():
    """No copies from another test; keeping is on again after a test that turned it off."""
    weights.forget_weights()
    yield
    weights._keeping = True


@pytest.fixture
def casts(monkeypatch):
    """The parameters that were cast, in order."""
    found = []

    def counted(weight, x):
        value = original(weight, x)
        if value is not weight:
            found.append(weight)
        return value

    original = weights.as_computed
    monkeypatch.setattr(weights, "as_computed", counted)
    return found


def block(**keywords) -> nn.Module:
    torch.manual_seed(1)
    return settled(rk.nn.BasicBlock(8, 8, **keywords)).train().to(memory_format=torch.channels_last)


def backward(model: nn.Module, x: torch.Tensor = X, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    with torch.autocast("cpu", dtype):
        y = model(x)
    y.float().square().sum().backward()
    return y.detach()


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "foreach": lambda p: torch.optim.SGD(p, 0.1, foreach=True),
    "fused": lambda p: torch.optim.SGD(p, 0.1, fused=True),
    "fused adam": lambda p: torch.optim.AdamW(p, 0.1, fused=True),
}


@pytest.mark.parametrize("when", ("before forward", "after forward", "to zero"))
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_cast_once_a_step(kind, when, casts, simulator):
    """Three micro-batches a step cast once, whatever the optimizer writes with, and use what it wrote."""
    model = block()
    optimizer = OPTIMIZERS[kind](model.parameters())
    for step in range(3):
        casts.clear()
        for micro in range(3):
            fresh = copy.deepcopy(model)
            if micro == 0 and when != "after forward":
                optimizer.zero_grad(set_to_none=when == "before forward")
            with torch.autocast("cpu", torch.bfloat16):
                y = model(X)
            if micro == 0 and when == "after forward":
                optimizer.zero_grad()
            y.float().square().sum().backward()
            before = len(casts)
            assert torch.equal(y, backward(fresh)), f"step {step}, micro-batch {micro}: stale weights"
            del casts[before:]
        # Where gradients are zeroed after the first forward, the second finds them as backward left them.
        assert [id(w) for w in casts] == [id(model.conv1.weight), id(model.conv2.weight)]
        optimizer.step()


def changes():
    """(name, change of a parameter in place)."""

    def with_no_grad(p):
        with torch.no_grad():
            p.mul_(1.5)

    def new_storage(p):
        p.data = p.data * 1.5

    def loaded(p):
        holder = nn.Module()
        holder.weight = p
        holder.load_state_dict({"weight": p.detach() * 1.5})

    def unseen(p):
        p.data.mul_(1.5)
        rk.training.forget_weights()

    def by_hand(p):
        p.data.mul_(1.5)
        p.grad = None

    return {f.__name__: f for f in (with_no_grad, new_storage, loaded, unseen, by_hand)}


@pytest.mark.parametrize("change", changes())
def test_a_change_is_seen(change, simulator):
    """Between two micro-batches, where the copy would be used again."""
    model = block()
    backward(model)
    changes()[change](model.conv2.weight)
    fresh = copy.deepcopy(model)
    assert torch.equal(backward(model), backward(fresh))


def test_what_shares_a_copy(casts, simulator):
    """A deepcopy casts its own; another dtype, autocast without its cache and recomputing cast anew."""
    model = block()
    backward(model)
    casts.clear()
    backward(model)
    assert not casts
    backward(copy.deepcopy(model))
    assert len(casts) == 2
    backward(model, dtype=torch.float16)
    assert len(casts) == 4
    with torch.autocast("cpu", torch.float16, cache_enabled=False):
        model(X)
    assert len(casts) == 6
    model._rk_memory = "recompute"
    backward(model)
    assert weights._copies.get(model.conv1.weight).value.dtype == torch.float16


def test_nothing_outlives_its_parameter(simulator):
    model = block()
    backward(model)
    assert len(weights._copies) == 2
    del model
    assert len(weights._copies) == 0


def test_without_gradients_nothing_is_kept_that_autocast_would_not(simulator):
    model = block().requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        model(X)
    assert len(weights._copies) == 0


def test_the_copies_are_counted(simulator):
    """`saved_bytes` counts a copy where it is made and where it is used again."""
    model, plain, x = block(), block(), X.bfloat16()
    plain.conv1.bfloat16(), plain.conv2.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        first = saved_bytes(model, x)
        backward(model)
        second = saved_bytes(model, x)
    parameters = sum(p.numel() for p in (model.conv1.weight, model.conv2.weight))
    assert first == second == saved_bytes(plain, x) + 2 * parameters


def test_a_compiled_optimizer_is_noticed(fresh, simulator):
    """Its step calls no hook and with fused=True counts no version: nothing is kept from then on."""
    model = block()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, fused=True)
    step = torch.compile(optimizer.step, backend="eager")
    for _ in range(3):
        twin = copy.deepcopy(model)
        assert torch.equal(backward(model), backward(twin))
        step()


def test_a_compiled_model_uses_what_the_optimizer_wrote(fresh, simulator):
    model = block()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, fused=True)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for _ in range(3):
        eager = copy.deepcopy(model)
        assert torch.equal(backward(compiled), backward(eager))
        optimizer.step()


def test_gradient_scaling_recovers_from_overflow(machine):
    """float16: a step with infinite gradients is skipped and the scale halved; the next one is taken."""
    model = settled(rk.fuse(nn.Sequential(rk.nn.ConvBNAct2d(8, 8, 3), rk.nn.BasicBlock(8, 8)))).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=100)
    skipped, losses = 0, []
    for _ in range(24):
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = (model(X).float() - 1).square().mean()
        scaler.scale(loss).backward()
        finite = all(torch.isfinite(p.grad).all() for p in model.parameters())
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        moved = any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        assert moved == finite and scaler.get_scale() == (scale if finite else scale / 2)
        skipped += not finite
        losses.append(loss.item())
    assert 0 < skipped < 23
    assert losses[-1] < losses[0] and all(torch.isfinite(p).all() for p in model.parameters())
