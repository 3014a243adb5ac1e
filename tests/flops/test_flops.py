"""The counts against the known figures, and the two independent ways of counting against each other."""

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

import resnet_kernels as rk

# GMACs at 224x224: stride in the first 1x1 convolution (the paper's v1), in the 3x3 (v1.5, torchvision's).
GMACS = {
    18: ("1.814", "1.814"),
    34: ("3.664", "3.664"),
    50: ("3.858", "4.089"),
    101: ("7.570", "7.801"),
    152: ("11.282", "11.514"),
}


@pytest.mark.parametrize("depth", GMACS)
def test_gmacs_to_three_decimals(depth):
    for stride_in, want in zip(("1x1", "3x3"), GMACS[depth], strict=True):
        count = rk.flops.count(f"resnet{depth}", (1, 3, 224, 224), stride_in=stride_in)
        assert f"{count.macs / 1e9:.3f}" == want
        assert count.flops == 2 * count.macs
    v1 = rk.flops.count(f"resnet{depth}", stride_in="1x1")
    assert v1.paper_gmacs == {18: 1.8, 34: 3.6, 50: 3.8, 101: 7.6, 152: 11.3}[depth]
    assert abs(v1.macs / 1e9 - v1.paper_gmacs) < 0.07  # the paper's table has two digits, and cuts them


@pytest.mark.parametrize("depth", GMACS)
@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_our_models_executed_are_the_table(depth, stride_in):
    """Layer by layer: names, kinds, shapes, MACs, parameters and bytes."""
    with torch.device("meta"):
        model = rk.models.create(f"resnet{depth}", stride_in=stride_in)
    traced = rk.flops.count(model, (2, 3, 224, 224))
    table = rk.flops.count(f"resnet{depth}", (2, 3, 224, 224), stride_in=stride_in)
    assert traced.layers == table.layers
    assert traced.params == table.params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("size", [(1, 3, 224, 224), (2, 3, 97, 130)])
def test_torchvisions_models_plain_and_fused(depth, size):
    model = getattr(torchvision.models, f"resnet{depth}")()
    table = rk.flops.count(f"resnet{depth}", size)
    plain = rk.flops.count(model, size)
    assert (plain.macs, plain.params) == (table.macs, table.params)
    assert plain.by_stage() == table.by_stage()
    assert sum(layer.params for layer in plain.layers) == table.params
    assert plain.bytes > table.bytes  # BatchNorm, ReLU and add cross memory on their own
    fused = rk.flops.count(rk.fuse(model.to(memory_format=torch.channels_last)), size)
    assert (fused.macs, fused.params, fused.bytes) == (table.macs, table.params, table.bytes)


def test_pytorchs_own_counter_agrees():
    model = torchvision.models.resnet50().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    assert counter.get_total_flops() == rk.flops.count("resnet50", (1, 3, 64, 64)).flops


@pytest.mark.parametrize(
    ("name", "gmacs", "params"),
    [("vgg16", 15.470, 138_357_544), ("vgg19", 19.632, 143_667_240), ("mobilenet_v2", 0.301, 3_504_872)],
)
def test_other_networks(name, gmacs, params):
    """Convolutions with groups, biases, several linear layers."""
    count = rk.flops.count(getattr(torchvision.models, name)())
    assert round(count.macs / 1e9, 3) == gmacs and count.params == params


def test_a_layer_counted_by_hand():
    layer = {
        layer.name: layer for layer in rk.flops.count("resnet50", (8, 3, 224, 224), dtype="bfloat16").layers
    }
    conv = layer["layer3.0.downsample.0"]
    assert (conv.input, conv.weight, conv.output) == ((8, 512, 28, 28), (1024, 512, 1, 1), (8, 1024, 14, 14))
    assert conv.macs == 8 * 14 * 14 * 1024 * 512
    read, written = 8 * 512 * 14 * 14, 8 * 1024 * 14 * 14  # every second pixel of the input, and only that
    assert conv.bytes == 2 * (read + written + 1024 * 512) + 4 * 4 * 1024
    assert conv.params == 1024 * 512 + 2 * 1024


def test_bytes_follow_the_dtype():
    half, single = (rk.flops.count("resnet18", dtype=dtype) for dtype in ("bfloat16", "float32"))
    vectors = sum(
        16 * (layer.params - _product(layer.weight)) // 2 for layer in half.layers if "bn" in layer.kind
    )
    assert single.bytes - vectors == 2 * (half.bytes - vectors) - 4 * 1000
    assert rk.flops.count(rk.models.resnet18().bfloat16()).dtype == "bfloat16"


def test_counting_leaves_the_module_as_it_was():
    model = torchvision.models.resnet18()
    model.layer1.eval()
    before = {name: module.training for name, module in model.named_modules()}
    weights = {name: (id(p), p.clone()) for name, p in model.state_dict(keep_vars=True).items()}
    rk.flops.count(model, (1, 3, 64, 64))
    assert before == {name: module.training for name, module in model.named_modules()}
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert id(tensor) == weights[name][0] and torch.equal(tensor, weights[name][1])


def test_empty_batch():
    assert rk.flops.count("resnet18", (0, 3, 224, 224)).macs == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rk.flops.count("resnet51"), ValueError, "resnet51.*known: plain18.*vgg19"),
        (lambda: rk.flops.count("resnet50", (3, 224, 224)), ValueError, "input_shape"),
        (lambda: rk.flops.count("resnet50", (1, 4, 224, 224)), ValueError, "3 channels"),
        (lambda: rk.flops.count("resnet50", stride_in="5x5"), ValueError, "stride_in"),
        (lambda: rk.flops.count("resnet50", shortcut="D"), ValueError, "shortcut"),
        (lambda: rk.flops.count("resnet50", dtype="int8"), ValueError, "dtype"),
        (lambda: rk.flops.count(3), TypeError, "model"),
        (lambda: rk.flops.count(torchvision.models.resnet18(), (1, 1, 64, 64)), ValueError, "does not take"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


def _product(shape):
    product = 1
    for size in shape:
        product *= size
    return product
