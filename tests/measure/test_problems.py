"""The suites' problems are the networks': their sums are what `flops` counts, byte by byte."""

import itertools

import pytest
import torch

from resnet_kernels import flops, models
from resnet_kernels.measure import convolutions, elementwise, plain, problems, suites, training
from resnet_kernels.measure.case import Ours
from resnet_kernels.measure.peers import NAMES, Choice

from .common import CPU

OURS = Ours("aten", "ours")
GPU = Choice(torch.device("cuda"))


@pytest.mark.parametrize("name", problems.NETWORKS)
def test_macs_are_the_networks(name):
    counted = [layer for layer in flops.count(name).layers if layer.kind.startswith("conv")]
    found = problems.convolutions([name])
    assert sum(conv.count[name] for conv in found) == len(counted)
    assert sum(conv.count[name] * conv.macs(1) for conv in found) == sum(layer.macs for layer in counted)


@pytest.mark.parametrize("name", ("resnet50", "resnet18", "cifar_resnet20"))
def test_bytes_are_those_that_flops_counts(name):
    counted = {}
    size = plain.image_size(name)
    for layer in flops.count(name, (4, 3, size, size), dtype="bfloat16").layers:
        kind, _, epilogue = layer.kind.partition("+")
        if kind == "conv":
            key = layer.input, layer.weight, epilogue.replace("+", "_")
            counted.setdefault(key, set()).add(layer.bytes)
    found = {}
    for conv in problems.convolutions([name]):
        for epilogue in conv.epilogues:
            case = convolutions.case(conv, 4, "bfloat16", "fprop", epilogue, GPU, OURS)
            key = tuple(case.problem["x"]), tuple(case.problem["weight"]), epilogue
            found.setdefault(key, set()).add(case.bytes)
    # A shortcut A is narrower than what it is added to; the suites measure residuals of the output's shape.
    assert found.keys() == counted.keys()
    assert all(found[key] <= counted[key] for key in found)


def test_the_head_costs_what_flops_counts():
    counted = {
        layer.kind: layer for layer in flops.count("resnet50", (4, 3, 224, 224), dtype="bfloat16").layers
    }
    for name in ("global_avg_pool", "linear"):
        case = elementwise.case(name, suites.HEAD, 4, "bfloat16", GPU, OURS, "the head")
        assert (case.flops, case.bytes) == (2 * counted[name].macs, counted[name].bytes), name


@pytest.mark.parametrize("name", elementwise.KERNELS)
def test_elementwise_kernels_move_their_operands(name):
    """What ours reads and writes, by the sizes of its tensors; masks, indices and vectors are small."""
    case = elementwise.case(name, (64, 14, 14), 2, "float32", Choice(CPU), OURS, "a test")
    inputs = case.make(0)
    kernel = elementwise.KERNELS[name]
    with torch.no_grad():
        results = kernel.ours(inputs)
    peers_own = {*kernel.idle, "y", "places", "count", "invstd", "sums"}
    if name == "bn_backward_reduce":
        peers_own.remove("y")
        del inputs["y"]
    read = [value for key, value in inputs.items() if key not in peers_own]
    tensors = sum(value.numel() * value.element_size() for value in (*read, *results))
    assert case.bytes == pytest.approx(tensors, rel=0.03)


def test_gradients_move_what_forward_moves():
    """Without an epilogue the three convolutions of a layer touch the same three tensors."""
    conv = problems.Conv(16, 8, 8, 32, 3, 1)
    each = {
        direction: convolutions.case(conv, 2, "float32", direction, "none", GPU, OURS)
        for direction in convolutions.EPILOGUES
    }
    assert len({(case.flops, case.bytes) for case in each.values()}) == 1


def test_floor_of_a_training_step_is_the_research_model():
    """Batch 256 of ResNet-50 in bf16 at 4.3 TB/s and 790 TFLOP/s: 13.7 thousand images a second."""
    from resnet_kernels.measure.roofline import Ceilings

    parts = training._parts("resnet50", 256, "bfloat16", 224)
    seconds, bound = Ceilings(4.3e12, {"bfloat16": 790e12}).floor(parts, "bfloat16")
    assert 12_500 < 256 / seconds < 15_500 and bound == "memory"


@pytest.mark.parametrize("quick", (True, False))
@pytest.mark.parametrize("kind", ("cpu", "cuda"))
@pytest.mark.parametrize("suite", ("layers", "networks", "training"))
def test_keys_are_unique_and_the_first_is_resnet50(suite, kind, quick):
    choice = Choice(torch.device(kind), quick=quick)
    found = [case.key for case in suites.cases(suite, suites.Options(quick=quick), choice, OURS)]
    assert len(found) == len(set(found))
    if not quick:
        first = next(suites.cases(suite, suites.Options(), choice, OURS))
        assert "resnet50" in first.networks
        assert first.dtype == suites.DTYPES[kind][0]


def test_the_full_suite_has_everything():
    found = list(suites.cases("layers", suites.Options(), GPU, OURS))
    assert {case.batch for case in found} == {1, 8, 32, 256}
    assert {case.dtype for case in found} == {"bfloat16", "float16", "tf32", "float32"}
    ways = {(case.direction, case.epilogue) for case in found}
    for direction, epilogues in convolutions.EPILOGUES.items():
        assert {(direction, epilogue) for epilogue in epilogues} <= ways
    names = {case.name for case in found if case.direction == "wgrad"}
    assert names == {conv.name for conv in problems.convolutions()}
    assert all(case.bytes > 0 for case in found)


def test_options_choose():
    options = suites.Options(dtypes=("float16",), batches=(2, 4), models=("resnet18",))
    found = list(suites.cases("networks", options, GPU, OURS))
    assert {(c.name, c.dtype, c.batch) for c in found} == {("resnet18", "float16", n) for n in (2, 4)}
    with pytest.raises(ValueError, match="no suite"):
        list(suites.cases("nothing", options, GPU, OURS))
    with pytest.raises(ValueError, match="resnet51"):
        problems.convolutions(["resnet51"])


@pytest.mark.parametrize("name", ("cifar_resnet20", "resnet18"))
def test_pytorchs_network_is_ours(name):
    """Same keys, same weights, same function, folded or not."""
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    mine, theirs = (plain.build(name, CPU, ours=ours).eval() for ours in (True, False))
    assert list(mine.state_dict()) == list(theirs.state_dict())
    with torch.no_grad():
        y = theirs(x)
        torch.testing.assert_close(mine(x), y, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(plain.folded(theirs)(x), y, rtol=1e-4, atol=1e-4)
        assert 0.01 < y.std() < 100
    assert set(models.names()) >= set(problems.NETWORKS)


def test_absent_peers_say_why():
    cpu = Choice(CPU, quick=True)
    for name in NAMES:
        reason = cpu.absent(name)
        if name.endswith("_graph") or name.startswith(("cudnn", "compile")):
            assert reason
    assert cpu.absent("eager_nhwc") is None
    assert Choice(CPU, ("jax",)).absent("eager_nhwc") == "not among --peers"
    assert "ask with --peers" in Choice(CPU).absent("compile_default", "slow")
    assert Choice(CPU, ("compile_default",)).absent("compile_default", "slow") is None
    pairs = itertools.product((True, False), ("ours_graph", "ours_compile"))
    assert all(Choice(CPU, quick=q).absent_of_ours(n) for q, n in pairs if q or n == "ours_graph")
