"""The plain networks and those for CIFAR: against float64, layer counts, machines, sizes, gradients."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import resnet_kernels as rk

from .common import calls, error, images, promised, settle

SMALL = {
    "cifar_resnet8": lambda: rk.models.cifar_resnet(8),
    "cifar_plain8": lambda: rk.models.cifar_plain(8),
    "plain10": lambda: rk.models.PlainNet((1, 1, 1, 1), num_classes=10),
}


def composition(state, x, training):
    """The paper's forward in the dtype of `state`: plain where the keys say nothing else, see `residual`."""

    def conv_bn(x, conv, bn, stride=1):
        weight = state[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, var = state[f"{bn}.running_mean"].clone(), state[f"{bn}.running_var"].clone()
        return F.batch_norm(x, mean, var, state[f"{bn}.weight"], state[f"{bn}.bias"], training)

    small, residual = state["conv1.weight"].shape[-1] == 3, state["residual"]
    x = F.relu(conv_bn(x, "conv1", "bn1", 1 if small else 2))
    x = x if small else F.max_pool2d(x, 3, 2, 1)
    blocks = [key.removesuffix(".conv1.weight") for key in state if key.endswith(".conv1.weight")]
    for block in blocks:
        stride = 2 if block.endswith(".0") and not block.startswith("layer1.") else 1
        y = F.relu(conv_bn(x, f"{block}.conv1", f"{block}.bn1", stride))
        y = conv_bn(y, f"{block}.conv2", f"{block}.bn2")
        if residual:
            skip = x[:, :, ::stride, ::stride]
            y = y + torch.cat([skip, skip.new_zeros(len(y), y.shape[1] - x.shape[1], *y.shape[2:])], 1)
        x = F.relu(y)
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def in_float64(model, name):
    parameters = {key: value.detach().double().requires_grad_() for key, value in model.named_parameters()}
    buffers = {key: value.double() for key, value in model.named_buffers()}
    return parameters, {**parameters, **buffers, "residual": "resnet" in name}


@pytest.mark.parametrize("name", rk.models.names())
def test_as_many_weighted_layers_as_the_name_says(name):
    with torch.device("meta"):
        model = rk.models.create(name)
    main = [
        path
        for path, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear)) and "downsample" not in path
    ]
    digits = "".join(character for character in name.split("_v1")[0] if character.isdigit())
    assert len(main) == int(digits)
    assert (model.fc if hasattr(model, "fc") else model.classifier[-1]).out_features == (
        10 if name.startswith("cifar") else 1000
    )


@pytest.mark.parametrize("size", [(2, 3, 16, 16), (1, 3, 33, 18)])
@pytest.mark.parametrize("name", SMALL)
def test_evaluation_against_float64(name, size, machine):
    model = settle(SMALL[name]()).eval()
    x = images(*size)
    _, state = in_float64(model, name)
    with torch.no_grad():
        assert error(model(x), composition(state, x.double(), False)) < 3e-6


@pytest.mark.parametrize("name", SMALL)
def test_gradients_against_float64(name, machine):
    """On the simulator training is fused, forward and backward; PyTorch computes it under "aten"."""
    model = SMALL[name]()
    x, weights = images(4, 3, 32, 32), images(4, 10, seed=2)
    parameters, state = in_float64(model, name)
    logits = model(x)
    (logits * weights).sum().backward()
    expected = composition(state, x.double(), True)
    (expected * weights.double()).sum().backward()
    assert error(logits, expected) < 1e-5
    for key, parameter in model.named_parameters():
        assert error(parameter.grad, parameters[key].grad) < 1e-3, key
    assert model.bn1.num_batches_tracked == 1 and model.bn1.running_mean.any()


def test_the_oracle_agrees_on_a_whole_cifar_network():
    """rk.reference reads the architecture off the weights: zero padding where there is no projection."""
    model = settle(rk.models.cifar_resnet(20)).eval()
    state = {key: value.double().numpy() for key, value in model.state_dict().items()}
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        ours = model(x).double().numpy()
    reference = rk.reference.resnet(state, x.double().numpy(), depth=20)
    assert np.linalg.norm(ours - reference) < 3e-6 * np.linalg.norm(reference)


@pytest.mark.parametrize("name", ["plain18", "cifar_plain20", "cifar_resnet20"])
def test_evaluation_runs_on_our_operators_alone(name):
    model = rk.models.create(name).eval()
    counted = calls(model, images(1, 3, 32, 32).contiguous(memory_format=torch.channels_last))
    stem = {"conv_bn_relu_maxpool": 1} if name == "plain18" else {}
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    assert counted.ours == promised(model)
    assert counted.ours == {
        "conv_fprop": convolutions - len(stem),
        **stem,
        "global_avg_pool": 1,
        "linear": 1,
    }
    assert counted.others.keys() <= ({"slice", "constant_pad_nd"} if "resnet" in name else set())
    report = rk.fuse_report(model)
    assert not report.unfused and not report.notes
    assert report.trained_convolutions == convolutions


def test_plain_and_residual_networks_share_their_weights():
    """The paper's comparison: the same parameters, the adds alone differ."""
    pairs = (
        (rk.models.cifar_resnet(20), rk.models.cifar_plain(20)),
        (rk.models.resnet18(shortcut="A", num_classes=3), rk.models.plain18(num_classes=3)),
    )
    for residual, plain in pairs:
        plain.load_state_dict(residual.state_dict())
        x = images(1, 3, 32, 32)
        with torch.no_grad():
            assert error(plain.eval()(x), residual.eval()(x)) > 0.1


def test_he_initialisation_of_every_convolution():
    for model in (rk.models.cifar_resnet(56), rk.models.plain34(num_classes=2)):
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d):
                outputs = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
                std = float(module.weight.detach().std())
                assert std == pytest.approx((2 / outputs) ** 0.5, rel=0.12), name


@pytest.mark.parametrize("size", [(1, 3, 1, 1), (2, 3, 7, 300), (0, 3, 32, 32)])
@pytest.mark.parametrize("name", SMALL)
def test_any_size(name, size):
    with torch.no_grad():
        logits = SMALL[name]().eval()(images(*size))
    assert logits.shape == (size[0], 10) and logits.isfinite().all()


def test_copies_pickles_and_files(tmp_path):
    model = settle(rk.models.cifar_plain(8, num_classes=4)).eval()
    x = images(1, 3, 16, 16)
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    loaded = rk.models.load_weights(rk.models.cifar_plain(8, num_classes=4), tmp_path / "plain.pth").eval()
    with torch.no_grad():
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
            assert torch.equal(other(x), model(x))


def test_vgg_is_torchvisions():
    assert type(rk.models.create("vgg16", num_classes=2)).__module__ == "torchvision.models.vgg"


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: rk.models.cifar_resnet(21), ValueError, r"depth must be 6n\+2 .* got 21.*20 and 26"),
        (lambda: rk.models.cifar_plain(2), ValueError, "depth must be at least 8, got 2"),
        (lambda: rk.models.cifar_resnet("20"), TypeError, "depth must be an int, got '20'"),
        (lambda: rk.models.cifar_resnet(20, shortcut="D"), ValueError, "shortcut must be one of 'A'"),
        (lambda: rk.models.cifar_resnet(20, num_classes=0), ValueError, "num_classes must be at least 1"),
        (lambda: rk.models.plain18(num_classes=2.0), TypeError, "num_classes must be an int"),
        (lambda: rk.models.plain34(shortcut="A"), TypeError, "shortcut"),
        (lambda: rk.nn.PlainBlock(8, 0), ValueError, "PlainBlock: channels must be at least 1"),
        (lambda: rk.models.create("cifar_resnet1203"), ValueError, "'cifar_resnet1202'.*got"),
    ],
)
def test_wrong_arguments_are_named(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
