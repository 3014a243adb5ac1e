"""The operators under PyTorch's machinery: opcheck, torch.compile, torch.export, the FLOP counter."""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import resnet_kernels as rk
from resnet_kernels import _register

from .conftest import NEEDS_SIMULATOR

OPS = torch.ops.resnet_kernels


def as_layout(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """``tensor``'s values contiguous, in channels_last, or as every second channel of a wider tensor."""
    if layout == "contiguous":
        return tensor.contiguous()
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    wide = torch.stack((tensor, tensor), 2).flatten(1, 2).contiguous(memory_format=torch.channels_last)
    return wide[:, ::2]


def arguments(operator: str, dtype: torch.dtype, layout: str) -> tuple:
    """A small call of the raw operator."""
    torch.manual_seed(0)
    x, weight, residual = (
        as_layout(torch.randn(shape).to(dtype), layout)
        for shape in ((2, 4, 6, 5), (8, 4, 3, 3), (2, 8, 3, 5))
    )
    vector = torch.float64 if dtype == torch.float64 else torch.float32
    scale, shift, mean, var = (torch.rand(8, dtype=vector) + 0.5 for _ in range(4))
    affine, geometry = (scale, shift, mean, var, 1e-5), ([2, 1], [1, 1], [1, 1])
    return {
        "conv_fprop": (x, weight, *affine, residual, *geometry, True, False),
        "bn_apply": (residual, *affine, as_layout(torch.randn(2, 8, 3, 5).to(dtype), layout), True),
        "conv_bn_relu_maxpool": (x, weight, *affine, *geometry, False),
        "max_pool": (x, [3, 3], [2, 2], [1, 1]),
        "global_avg_pool": (x,),
        "linear": (x[:, :, 0, 0], weight[:, :, 0, 0], shift, False),
    }[operator]


HALF, SINGLE, DOUBLE = (torch.bfloat16, torch.float16), torch.float32, torch.float64
CASES = [
    pytest.param(*case, marks=NEEDS_SIMULATOR if case[0] == "simulator" else ())
    for case in itertools.product(
        ("aten", "simulator"),
        _register.SCHEMAS,
        (*HALF, SINGLE, DOUBLE),
        ("contiguous", "channels_last", "sliced"),
    )
    if case[::2] != ("simulator", DOUBLE)
]


@pytest.mark.parametrize("machine,operator,dtype,layout", CASES)
def test_opcheck(machine, operator, dtype, layout):
    with rk.backend(machine):
        torch.library.opcheck(
            getattr(OPS, operator).default,
            arguments(operator, dtype, layout),
            test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
        )


@pytest.mark.parametrize("machine,operator", tuple(("aten", o) for o in _register.SCHEMAS))
def test_opcheck_of_compiled_gradients(machine, operator):
    """The costly check, forward and backward traced with dynamic shapes, once an operator."""
    args = tuple(
        a.detach().requires_grad_() if isinstance(a, torch.Tensor) else a
        for a in arguments(operator, SINGLE, "contiguous")
    )
    with rk.backend(machine):
        torch.library.opcheck(getattr(OPS, operator).default, args, test_utils="test_aot_dispatch_dynamic")


@pytest.mark.parametrize("operator", _register.SCHEMAS)
def test_schemas_agree_between_the_namespaces(operator):
    packets = [
        getattr(getattr(torch.ops, name), operator)
        for name in (_register.NAMESPACE, _register.SIMULATOR, _register.SIMULATOR_CHECKED)
    ]
    schemas = {str(packet.default._schema).split("::")[1] for packet in packets}
    assert len(schemas) == 1
    for packet in packets:
        assert torch.Tag.pt2_compliant_tag in packet.default.tags
        assert torch.Tag.needs_exact_strides in packet.default.tags


class Net(torch.nn.Module):
    """Every operator once: stem, convolution with a residual, elementwise, pools, classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = torch.nn.Parameter(torch.randn(8, 3, 3, 3) * 0.2)
        self.conv = torch.nn.Parameter(torch.randn(8, 8, 3, 3) * 0.1)
        self.fc = torch.nn.Parameter(torch.randn(5, 8))
        self.bias = torch.nn.Parameter(torch.randn(5))
        for name in ("scale", "shift", "mean", "var"):
            self.register_buffer(name, torch.rand(8) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bn = {"mean": self.mean, "var": self.var}
        y = rk.ops.conv_bn_relu_maxpool(x, self.stem, self.scale, self.shift, **bn, padding=1)
        z = rk.ops.conv_bn_act(y, self.conv, self.scale, self.shift, y, **bn, padding=1)
        z = rk.ops.bn_act(z, self.scale, None, y)
        z = rk.ops.max_pool(z, 2, padding=1)
        return rk.ops.linear(rk.ops.global_avg_pool(z), self.fc, self.bias)


def called(graph: torch.fx.Graph) -> set[str]:
    """Names of our operators that a graph calls."""
    return {str(n.target).split(".")[1] for n in graph.nodes if str(n.target).startswith("resnet_kernels.")}


@pytest.fixture
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_compile_full_graph_keeps_the_operators(machine, fresh):
    graphs = []

    def look(module, inputs):
        graphs.append(module.graph)
        return module.forward

    net, x = Net(), torch.randn(2, 3, 12, 12)
    y = torch.compile(net, fullgraph=True, backend=look)(x)
    torch.testing.assert_close(y, net(x))
    assert len(graphs) == 1 and called(graphs[0]) == set(_register.SCHEMAS)


def test_compiled_gradients(machine, fresh):
    net, x = Net(), torch.randn(2, 3, 12, 12)
    net(x).sum().backward()
    expected = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    torch.compile(net, fullgraph=True, backend="aot_eager")(x).sum().backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], msg=name)


def test_no_recompile_after_warm_up(fresh):
    """New batch sizes reuse the graph with a dynamic batch that the second size gave."""
    net = Net().requires_grad_(False)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for n in (2, 3):
        compiled(torch.randn(n, 3, 12, 12))
    with torch._dynamo.config.patch(error_on_recompile=True):
        for n in (4, 5, 17):
            x = torch.randn(n, 3, 12, 12)
            torch.testing.assert_close(compiled(x), net(x))


def test_compiled_program_follows_the_backend(simulator, fresh):
    net, x = Net().requires_grad_(False), torch.randn(2, 3, 12, 12)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    on_simulator = compiled(x)
    with rk.backend("aten"), torch._dynamo.config.patch(error_on_recompile=True):
        on_aten = compiled(x)
        assert torch.equal(on_aten, net(x))
    assert torch.equal(on_simulator, net(x))
    assert not torch.equal(on_simulator, on_aten)  # TF32 on the simulator, float32 in PyTorch on a CPU


@pytest.mark.slow
def test_inductor(machine, fresh):
    """The default compiler, which generates and compiles C++ around our operators."""
    net, x = Net().requires_grad_(False), torch.randn(2, 3, 12, 12)
    compiled = torch.compile(lambda x: net(x.relu() * 2) + 1, fullgraph=True)
    torch.testing.assert_close(compiled(x), net(x.relu() * 2) + 1)


@pytest.mark.parametrize("strict", (False, True))
def test_export_with_a_dynamic_batch(strict):
    net = Net().eval()
    program = torch.export.export(
        net, (torch.randn(2, 3, 12, 12),), dynamic_shapes=({0: torch.export.Dim("n")},), strict=strict
    )
    assert called(program.graph) == set(_register.SCHEMAS)
    module = program.module()
    for n in (1, 2, 7):
        x = torch.randn(n, 3, 12, 12)
        torch.testing.assert_close(module(x), net(x))
    assert module(torch.randn(0, 3, 12, 12)).shape == (0, 5)


def test_export_runs_under_another_backend(tmp_path, simulator):
    net, x = Net().eval(), torch.randn(2, 3, 12, 12)
    with rk.backend("aten"):
        program = torch.export.export(net, (x,))
    torch.export.save(program, tmp_path / "net.pt2")
    module = torch.export.load(tmp_path / "net.pt2").module()
    assert torch.equal(module(x), net(x))
    with rk.backend("aten"):
        assert torch.equal(module(x), net(x))
        assert not torch.equal(module(x), on_simulator(net, x))


def on_simulator(net, x):
    with rk.backend("simulator"):
        return net(x)


def test_fake_tensors_give_shapes_and_strides(machine):
    from torch._subclasses import FakeTensorMode

    net, x = Net(), torch.randn(2, 3, 12, 12)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = net(mode.from_tensor(x))
    assert fake.shape == (2, 5) and fake.stride() == net(x).stride()


def test_flop_counter(machine):
    x, weight = torch.randn(2, 4, 6, 5), torch.randn(8, 4, 3, 3)
    with FlopCounterMode(display=False) as counter:
        rk.ops.conv_bn_act(x, weight, stride=(2, 1), padding=1)
    assert counter.get_total_flops() == 2 * (2 * 8 * 3 * 5) * (4 * 3 * 3)
    with FlopCounterMode(display=False) as counter:
        rk.ops.conv_bn_relu_maxpool(x, weight, stride=(2, 1), padding=1)
    assert counter.get_total_flops() == 2 * (2 * 8 * 3 * 5) * (4 * 3 * 3)
    with FlopCounterMode(display=False) as counter:
        rk.ops.linear(torch.randn(3, 7), torch.randn(5, 7))
        rk.ops.bn_act(x), rk.ops.max_pool(x, 2), rk.ops.global_avg_pool(x)
    assert counter.get_total_flops() == 2 * 3 * 5 * 7
