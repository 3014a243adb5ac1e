"""Every network of the paper counted in independent ways, and every cost that the paper prints."""

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

import resnet_kernels as rk

# He et al. 2015: (network, multiply-adds in 10^9), typed from table 1 and sections 3.3 and 4.1.
GMACS = {"plain34": 3.6, "resnet18_a": 1.8, "resnet34_a": 3.6, "resnet50_v1": 3.8, "resnet101_v1": 7.6}
GMACS |= {"resnet152_v1": 11.3, "vgg16": 15.3, "vgg19": 19.6}
# Table 6, in 10^6 parameters.
MPARAMS = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7, 1202: 19.4}

SHALLOW = [name for name in rk.models.names() if "1202" not in name]


def outline(name):
    with torch.device("meta"):
        return rk.models.create(name)


def numbers(count):
    return [(layer.kind, layer.weight, layer.output, layer.macs, layer.params) for layer in count.layers]


def test_every_network_that_can_be_made_can_be_counted():
    assert rk.flops.names() == rk.models.names()


@pytest.mark.parametrize("name", GMACS)
def test_multiply_adds_of_the_paper(name):
    count = rk.flops.count(name)
    assert count.paper_gmacs == GMACS[name]
    assert abs(count.macs / 1e9 - GMACS[name]) < (0.18 if name == "vgg16" else 0.06)


@pytest.mark.parametrize("depth", MPARAMS)
def test_parameters_of_table_6(depth):
    residual = rk.flops.count(f"cifar_resnet{depth}")
    assert residual.paper_mparams == MPARAMS[depth]
    digits = len(str(MPARAMS[depth]).split(".")[1])
    assert round(residual.params / 1e6, digits) == MPARAMS[depth]
    if depth != 1202:
        plain = rk.flops.count(f"cifar_plain{depth}")
        assert (plain.params, plain.macs) == (residual.params, residual.macs)


def test_the_comparison_holds_every_figure_and_explains_the_one_that_differs():
    rows = rk.flops.compare()
    assert {row.network for row in rows} >= {*GMACS, *(f"cifar_resnet{depth}" for depth in MPARAMS)}
    assert all(row.agrees for row in rows if row.network != "vgg16")
    assert {row.network: row.agrees for row in rows}["resnet50_v1"] == "cut"
    (vgg,) = [row for row in rows if row.network == "vgg16"]
    assert vgg.agrees == "" and vgg.note == "the convolutions alone: 15.347"
    assert vgg.difference == pytest.approx(0.0111, abs=1e-4)


@pytest.mark.parametrize("name", SHALLOW)
def test_the_table_is_what_our_models_execute(name):
    """Two independent ways: arithmetic from the architecture, and operators seen by PyTorch's dispatcher."""
    size = (2, 3, 64, 96)
    table, traced = rk.flops.count(name, size), rk.flops.count(outline(name), size)
    ours, theirs = numbers(table), numbers(traced)
    if name.startswith("vgg"):  # PyTorch composes an adaptive pooling to 7x7 of several operators
        ours, theirs = ([row for row in rows if row[3]] for rows in (ours, theirs))
    else:
        assert table.bytes == traced.bytes
    assert ours == theirs and table.params == traced.params


def test_1202_layers_have_the_tables_parameters():
    model = outline("cifar_resnet1202")
    assert sum(p.numel() for p in model.parameters()) == rk.flops.count("cifar_resnet1202").params


@pytest.mark.parametrize("mode", ["our model", "torchvision's", "torchvision's, fused"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_pytorchs_counter_on_fused_and_unfused_models(name, mode):
    model = rk.models.create(name) if mode == "our model" else torchvision.models.get_model(name)
    model = rk.fuse(model) if "fused" in mode else model
    assert counted(model.eval(), 64) == rk.flops.count(name, (1, 3, 64, 64)).flops


@pytest.mark.parametrize("name", ["plain18", "resnet18_a", "resnet18_c", "cifar_plain20", "cifar_resnet20"])
def test_pytorchs_counter_on_the_papers_other_networks(name):
    model = rk.models.create(name).eval()
    assert counted(model, 48) == rk.flops.count(name, (1, 3, 48, 48)).flops


def test_pytorchs_counter_in_training():
    """Forward, and twice that for both gradients of each convolution but the first, which has one."""
    x = torch.zeros(2, 3, 32, 32)
    for backend in ("aten", "simulator") if rk.simulator.built() else ("aten",):
        with rk.backend(backend):
            model = rk.models.cifar_plain(8).train()
            with FlopCounterMode(display=False) as counter:
                model(x).sum().backward()
        forward = rk.flops.count(model, x.shape).flops
        stem = 2 * 2 * 32 * 32 * 16 * 27
        assert counter.get_total_flops() == 3 * forward - stem


def counted(model, size):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, size, size))
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rk.flops.count("plain18", shortcut="A"), "plain18 has no shortcuts"),
        (lambda: rk.flops.count("vgg16", (1, 3, 31, 224)), "vgg16 takes input_shape from 32 x 32"),
        (lambda: rk.flops.count("cifar_resnet20", (1, 1, 32, 32)), "3 channels"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_options_override_what_the_name_says():
    assert rk.flops.count("resnet34_a", shortcut="B").macs == rk.flops.count("resnet34").macs
    assert rk.flops.count("resnet50_v1", stride_in="3x3").macs == rk.flops.count("resnet50").macs
    assert rk.flops.count("resnet34_a", shortcut="B").paper_gmacs is None
    assert rk.flops.count("cifar_resnet20", num_classes=100).params == 269_722 + 90 * 65
