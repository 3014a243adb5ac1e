"""Two processes train as one: synchronised BatchNorm, DistributedDataParallel, fully sharded parameters."""

from __future__ import annotations

import contextlib
import copy
import functools
import pickle
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torchvision.models import resnet

import resnet_kernels as rk
from resnet_kernels.training.groups import merge_moments

from .conftest import MACHINES
from .layers import Block, distance, in_float64, results, settled
from .ranks import Ranks

Results = dict[str, Tensor]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    processes = Ranks(tmp_path_factory.mktemp("ranks"))
    yield processes
    processes.close()


def network(kind: str = "small") -> nn.Module:
    """A network with a BatchNorm of every standing: behind a convolution of a layer, a block, a shortcut,
    and one that no convolution stands before."""
    torch.manual_seed(0)
    if kind == "torchvision":
        return settled(resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=5)).train()
    layers = [
        rk.nn.ConvBNAct2d(3, 8, 3),
        rk.nn.BasicBlock(8, 8),
        rk.nn.BasicBlock(8, 12, 2, shortcut="A"),
        rk.nn.Bottleneck(12, 4, 1),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(16),
    ]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    return settled(model).train()


def batch(count: int = 6, size: int = 8, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """(images, gradients of their 5 logits)."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(count, 3, size, size, generator=generator) + torch.arange(count).view(-1, 1, 1, 1)
    return x.to(dtype), torch.randn(count, 5, generator=generator).to(dtype)


def part(tensor: Tensor, split: int) -> Tensor:
    """This process's images of a batch: the first ``split`` in rank 0, the others in rank 1."""
    return tensor[:split] if dist.get_rank() == 0 else tensor[split:]


def gathered(model: nn.Module, y: Tensor, x: Tensor) -> Results:
    """This process's logits and gradient of its images; parameters' gradients summed over the processes."""
    out = {"y": y.detach(), "x.grad": x.grad}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        dist.all_reduce(parameter.grad)
        out[f"{name}.grad"] = parameter.grad
    return out | {name: buffer.clone() for name, buffer in model.named_buffers()}


def synchronised_step(kind: str, machine: str, split: int, size: int, dtype: torch.dtype) -> Results:
    """In each process: two steps on its part of the batch, results of the second."""
    model = rk.nn.convert_sync_batchnorm(rk.fuse(network(kind).to(dtype)))
    for _ in range(2):
        x, g = (part(t, split) for t in batch(size=size, dtype=dtype))
        x.requires_grad_()
        model.zero_grad()
        with rk.backend(machine):
            y = model(x)
            y.backward(g)
    return gathered(model, y, x)


def whole(kind: str, size: int) -> Results:
    """The same steps by PyTorch's BatchNorm on the whole batch, in float64."""
    model = rk.unfuse(network(kind)).double()
    for _ in range(2):
        x, g = batch(size=size, dtype=torch.float64)
        x.requires_grad_()
        model.zero_grad()
        y = model(x)
        y.backward(g)
    out = {"y": y.detach(), "x.grad": x.grad}
    out |= {f"{name}.grad": p.grad for name, p in model.named_parameters()}
    return out | dict(model.named_buffers())


def joined(both: list[Results]) -> Results:
    """One result of both: rows together; what both must have alike is compared."""
    first, second = both
    for name in first.keys() - {"y", "x.grad"}:
        assert torch.equal(first[name], second[name]), f"{name} differs between the processes"
    return first | {name: torch.cat((first[name], second[name])) for name in ("y", "x.grad")}


def assert_close(got: Results, want: Results, bound: float) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert distance(got[name], value) <= bound, f"{name}: {distance(got[name], value):.1e}"


@pytest.mark.parametrize("split", (3, 1, 6), ids=("even", "uneven", "one without images"))
@pytest.mark.parametrize("machine", MACHINES)
def test_synchronised_batchnorm_is_that_of_the_whole_batch(machine, split, ranks):
    steps = ranks.run(synchronised_step, "small", machine, split, 8, torch.float32)
    assert_close(joined(steps), whole("small", 8), 2e-5)


@pytest.mark.parametrize("machine", MACHINES)
def test_synchronised_torchvision_network(machine, ranks):
    steps = ranks.run(synchronised_step, "torchvision", machine, 2, 32, torch.float32)
    assert_close(joined(steps), whole("torchvision", 32), 2e-4)


def test_synchronised_in_float64(ranks):
    steps = ranks.run(synchronised_step, "small", "aten", 2, 8, torch.float64)
    assert_close(joined(steps), whole("small", 8), 1e-12)


def block_step(kind: str, shortcut: str, memory: str, machine: str) -> Results:
    """A block by `chain_train` on this process's images."""
    block = Block(kind, shortcut)
    x, g = block_batch(block)
    with rk.backend(machine):
        fused = functools.partial(block.fused, memory=memory, group=dist.group.WORLD)
        out = results(block, fused, part(x, 2), part(g, 2))
    for name, value in out.items():
        if name.endswith(".grad") and name != "x.grad":
            dist.all_reduce(value)
    return out


def block_batch(block: Block) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(5, block.width, 6, 6, generator=generator)
    return x * 3 + 10, torch.randn(5, block.out, 6, 6, generator=generator)


@pytest.mark.parametrize("memory", rk.training.MEMORY)
@pytest.mark.parametrize("kind,shortcut", (("basic", "zero_pad"), ("bottleneck", "projection")))
@pytest.mark.parametrize("machine", MACHINES)
def test_synchronised_chain(machine, kind, shortcut, memory, ranks):
    """The function the modules call, on both machines and in both memory modes."""
    block = Block(kind, shortcut)
    want = in_float64(block, *block_batch(block))
    assert_close(joined(ranks.run(block_step, kind, shortcut, memory, machine)), want, 1e-4)


def merged(offset: float, split: int) -> tuple[Tensor, Tensor]:
    """(moments, count) of the group for values around ``offset``."""
    values = part(spread(offset), split).float()
    mean = values.mean(0) if len(values) else torch.zeros(values.shape[1])
    moments = torch.stack((mean, (values - mean).square().sum(0)))
    return merge_moments(moments, len(values), dist.group.WORLD)


def spread(offset: float) -> Tensor:
    """Values [1000, 8] with a standard deviation of 1, as float32 holds them."""
    generator = torch.Generator().manual_seed(11)
    return (torch.randn(1000, 8, generator=generator) + offset).double()


@pytest.mark.parametrize("split", (500, 1, 0))
@pytest.mark.parametrize("offset", (0.0, 1e2, 1e4))
def test_merged_moments_keep_their_digits(offset, split, ranks):
    """Sums and sums of squares in float32 would have no digit of the variance left at 1e4."""
    values = spread(offset)
    m2 = (values - values.mean(0)).square().sum(0)
    for moments, count in ranks.run(merged, offset, split):
        assert count == 1000
        assert torch.allclose(moments[0].double(), values.mean(0), rtol=2e-7, atol=1e-6)
        assert distance(moments[1], m2) <= 1e-6 + 1e-7 * offset


def converted_by_pytorch(machine: str) -> Results:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(rk.fuse(network("torchvision")))
    x, g = (part(t, 3) for t in batch(size=32))
    x.requires_grad_()
    with rk.backend(machine):
        y = model(x)
        y.backward(g)
    return gathered(model, y, x)


def test_pytorchs_own_conversion(simulator, ranks):
    """`torch.nn.SyncBatchNorm` in a fused network is fused; on a CPU PyTorch's own refuses to run."""
    ours = joined(ranks.run(converted_by_pytorch, "simulator"))
    model = network("torchvision").double()
    x, g = batch(size=32, dtype=torch.float64)
    x.requires_grad_()
    y = model(x)
    y.backward(g)
    want = {"y": y.detach(), "x.grad": x.grad} | dict(model.named_buffers())
    want |= {f"{name}.grad": p.grad for name, p in model.named_parameters()}
    assert_close(ours, want, 2e-4)
    with pytest.raises(AssertionError, match="SyncBatchNorm expected input tensor to be on GPU"):
        ranks.run(converted_by_pytorch, "aten")


def evaluated(machine: str) -> list[Tensor]:
    plain = network()
    synchronised = rk.nn.convert_sync_batchnorm(copy.deepcopy(plain))
    x = part(batch()[0], 2)
    with torch.no_grad(), rk.backend(machine):
        return [model.eval()(x) for model in (plain, synchronised)]


@pytest.mark.parametrize("machine", MACHINES)
def test_evaluation_is_not_synchronised(machine, ranks):
    for plain, synchronised in ranks.run(evaluated, machine):
        assert torch.equal(plain, synchronised)


def in_groups_of_one() -> list[Tensor]:
    groups = [dist.new_group([rank]) for rank in range(dist.get_world_size())]
    plain = network()
    alone = rk.nn.convert_sync_batchnorm(copy.deepcopy(plain), groups[dist.get_rank()])
    copied = copy.deepcopy(alone)
    assert copied[0].bn.process_group is None and alone[0].bn.process_group is not None
    x = part(batch()[0], 2)
    return [model(x) for model in (plain, alone)]


def test_the_group_is_obeyed(ranks):
    """A group of one process has nothing to share; a copy does not take the group along."""
    for plain, alone in ranks.run(in_groups_of_one):
        assert torch.equal(plain, alone)


def compiled_step(machine: str) -> float:
    """Largest distance of a compiled synchronised step from the eager one."""
    torch._dynamo.reset()
    model = settled(nn.Sequential(rk.nn.BasicBlock(3, 5), nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1)))
    model = rk.nn.convert_sync_batchnorm(model.train())
    twin = copy.deepcopy(model)
    worst = 0.0
    for run in (model, twin):
        x, g = (part(t, 2) for t in batch())
        g = g[:, :, None, None]
        with rk.backend(machine):
            forward = torch.compile(run, fullgraph=True, backend="aot_eager") if run is twin else run
            forward(x).backward(g)
    pairs = zip((*model.parameters(), *model.buffers()), (*twin.parameters(), *twin.buffers()), strict=True)
    for a, b in pairs:
        worst = max(worst, distance(b.detach(), a.detach()))
        if a.grad is not None:
            worst = max(worst, distance(b.grad, a.grad))
    return worst


@pytest.mark.parametrize("machine", MACHINES)
def test_synchronised_batchnorm_compiles(machine, ranks):
    assert max(ranks.run(compiled_step, machine)) <= 1e-5


def test_conversion_keeps_everything_else():
    """Parameters, keys, hooks and classes of the network; a copy and a pickle keep the conversion."""
    model = rk.fuse(network("torchvision"))
    called, parameters, keys = [], list(model.parameters()), list(model.state_dict())
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    norms[0].register_forward_hook(lambda *_: called.append(1))
    kinds = [type(m) for m in model.modules() if not isinstance(m, nn.BatchNorm2d)]
    assert rk.nn.convert_sync_batchnorm(model) is model
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert keys == list(model.state_dict())
    assert all(type(norm) is rk.nn.SyncBatchNorm2d for norm in norms)
    assert [type(m) for m in model.modules() if not isinstance(m, nn.BatchNorm2d)] == kinds
    assert rk.fuse_report(model).trained_convolutions == 11  # all but the one before the hook
    model(batch(size=32)[0])
    assert called
    for twin in (copy.deepcopy(norms[1]), pickle.loads(pickle.dumps(norms[1]))):
        assert type(twin) is rk.nn.SyncBatchNorm2d and torch.equal(twin.weight, norms[1].weight)


def test_conversion_names_what_it_leaves():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.warns(UserWarning, match="1 is a BatchNorm1d and keeps the statistics of its own process"):
        rk.nn.convert_sync_batchnorm(model)
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got int"):
        rk.nn.convert_sync_batchnorm(3)


# ------------------------------------------------------------------------------------------------------------
# DistributedDataParallel and fully sharded parameters


def trained(model: nn.Module, forward: nn.Module, machine: str, split: int | None, sync: Any) -> Results:
    """Two SGD steps of two micro-batches each; split None: the whole batch in this process alone.

    sync(last): entered around each micro-batch.  The loss is a mean over the images of all processes, which
    DistributedDataParallel's mean over processes makes of a sum over this process's.
    """
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    losses = []
    for step in range(2):
        optimizer.zero_grad()
        for micro in range(2):
            x, g = (t + 0.1 * (2 * step + micro) for t in batch(6))
            if split is not None:
                x, g = part(x, split), 2 * part(g, split)
            with sync(micro == 1), rk.backend(machine):
                loss = (forward(x) * g).sum() / 12
                loss.backward()
            losses.append(loss.detach())
        optimizer.step()
    return {"losses": torch.stack(losses)} | {k: v.detach().clone() for k, v in model.state_dict().items()}


def without(_: bool) -> Any:
    return contextlib.nullcontext()


def ddp(machine: str, split: int, options: dict[str, Any]) -> Results:
    model = rk.nn.convert_sync_batchnorm(rk.fuse(network()))
    parallel = nn.parallel.DistributedDataParallel(model, **options)
    return trained(
        model, parallel, machine, split, lambda last: contextlib.nullcontext() if last else parallel.no_sync()
    )


@pytest.mark.parametrize("options", ({}, {"gradient_as_bucket_view": True}), ids=str)
@pytest.mark.parametrize("machine", MACHINES)
def test_data_parallel_is_the_whole_batch(machine, options, ranks):
    """Two optimizer steps under DistributedDataParallel, two micro-batches each, the first with no_sync()."""
    first, second = ranks.run(ddp, machine, 2, options)
    want = trained(model := network(), model, "auto", None, without)
    assert torch.allclose((first.pop("losses") + second.pop("losses")) / 2, want.pop("losses"), rtol=1e-4)
    for name, value in want.items():
        assert torch.equal(first[name], second[name]), name
        assert distance(first[name], value) <= 1e-4, f"{name}: {distance(first[name], value):.1e}"


def fsdp(machine: str, reshard: bool, fuse_first: bool, dtype: torch.dtype | None) -> Results:
    """`fully_shard` of every block and of the rest; the state_dict put together again."""
    model = network()
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    if fuse_first:
        rk.fuse(model)
    for module in (model[1], model[3], model):
        fully_shard(module, reshard_after_forward=reshard, mp_policy=policy)
    model = rk.nn.convert_sync_batchnorm(rk.fuse(model))
    out = trained(model, model, machine, 2, lambda last: contextlib.nullcontext())
    return {name: v.full_tensor() if hasattr(v, "full_tensor") else v for name, v in out.items()}


@pytest.mark.parametrize(
    "reshard,fuse_first", ((True, True), (False, False)), ids=("fused, sharded", "sharded, fused")
)
@pytest.mark.parametrize("machine", MACHINES)
def test_fully_sharded_is_the_whole_batch(machine, reshard, fuse_first, ranks):
    first, second = ranks.run(fsdp, machine, reshard, fuse_first, None)
    want = trained(model := network(), model, "auto", None, without)
    assert torch.allclose((first.pop("losses") + second.pop("losses")) / 2, want.pop("losses"), rtol=1e-4)
    for name, value in want.items():
        assert torch.equal(first[name], second[name]), name
        assert distance(first[name], value) <= 2e-4, f"{name}: {distance(first[name], value):.1e}"


def test_fully_sharded_in_bfloat16(simulator, ranks):
    """Parameters gathered in bfloat16, buffers and shards in float32: as far from float32 as PyTorch's."""
    ours, theirs = (
        ranks.run(fsdp, machine, True, True, torch.bfloat16)[0] for machine in ("simulator", "aten")
    )
    want = trained(model := network(), model, "auto", None, without)
    for name in want.keys() - {"losses"}:
        error, peer = (distance(result[name], want[name]) for result in (ours, theirs))
        assert ours[name].dtype == want[name].dtype
        assert error <= 2 * peer + 0.02, f"{name}: {error:.1e}, PyTorch's {peer:.1e}"


def test_unfuse_leaves_sharding_alone(ranks):
    assert ranks.run(unfused_behind_sharding)


def unfused_behind_sharding() -> None:
    model = rk.fuse(network("torchvision"))
    fully_shard(model.layer1[0])
    with pytest.raises(TypeError, match=r"layer1.0 has become a FSDPFusedBasicBlock since fuse"):
        rk.unfuse(model)
    assert type(model) is not resnet.ResNet  # nothing was undone halfway
