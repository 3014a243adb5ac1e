"""What happens to a fused network afterwards: copies, moves, optimizers, conversions, compilers."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.models.feature_extraction import create_feature_extractor

import resnet_kernels as rk

from .common import calls, error, foreign, images, promised

NAMES = ["small", "short timm resnet18"]


@pytest.fixture(params=NAMES)
def model(request):
    return rk.fuse(foreign(request.param).eval())


def assert_twin(twin, model, x):
    with torch.no_grad():
        assert torch.equal(twin(x), model(x))
    assert [type(a) for a in twin.modules()] == [type(b) for b in model.modules()]
    assert calls(twin, x).ours == promised(model)
    assert not {id(a) for a in twin.parameters()} & {id(b) for b in model.parameters()}


def test_deepcopy(model):
    assert_twin(copy.deepcopy(model), model, images(1, 3, 32, 32))


def test_pickle_and_save(model):
    x = images(1, 3, 32, 32)
    assert_twin(pickle.loads(pickle.dumps(model)), model, x)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert_twin(torch.load(file, weights_only=False), model, x)


def test_unfuse_after_pickle_and_deepcopy(model):
    kinds = [type(module) for module in rk.unfuse(copy.deepcopy(model)).modules()]
    twin = rk.unfuse(pickle.loads(pickle.dumps(model)))
    assert [type(module) for module in twin.modules()] == kinds
    assert not any(name.startswith("_rk") for module in twin.modules() for name in module.__dict__)


def test_shared_layers_stay_shared_in_a_copy():
    conv, bn = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
    model = rk.fuse(nn.Sequential(conv, bn, nn.ReLU(), conv, bn, nn.ReLU()).eval())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin[0] is twin[3]
        assert not calls(twin, images(1, 4, 5, 5)).ours


def test_moves(model):
    x = images(1, 3, 32, 32)
    model.to(torch.bfloat16).to(memory_format=torch.channels_last)
    with torch.no_grad():
        assert model(x.bfloat16()).dtype == torch.bfloat16
    meta = model.to("meta")
    with torch.no_grad():
        assert meta(x.to("meta", torch.bfloat16)).shape == (1, model.fc.out_features)


def test_state_dict_travels_to_an_unfused_twin(model):
    plain = foreign(NAMES["timm" in type(model).__module__]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    plain.load_state_dict(model.state_dict(), strict=True)
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        assert error(model(x), plain(x)) < 1e-5


def test_loaded_and_edited_weights_count_at_once(model):
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        model(x)
        model.bn1.running_var.mul_(4)
        model.layer1[0].conv1.weight.data = model.layer1[0].conv1.weight.data * 2
        assert error(model(x), rk.unfuse(copy.deepcopy(model))(x)) < 1e-5


def test_an_optimizer_made_before_stays_valid():
    torch.manual_seed(0)
    model = foreign("small")
    peer = copy.deepcopy(model)
    optimizers = [torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9) for network in (model, peer)]
    parameters = list(model.parameters())
    rk.fuse(model)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    for step in range(2):
        x = images(2, 3, 32, 32, seed=step)
        for network, optimizer in zip((model, peer), optimizers, strict=True):
            optimizer.zero_grad()
            network(x).square().mean().backward()
            optimizer.step()
    for a, b in zip(model.parameters(), peer.parameters(), strict=True):
        assert torch.equal(a, b)
    x = images(2, 3, 32, 32)
    with torch.no_grad():
        assert error(model.eval()(x), peer.eval()(x)) < 1e-4


def test_ema(model):
    x = images(1, 3, 32, 32)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    average.update_parameters(model)
    before = [parameter.clone() for parameter in model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    average.update_parameters(model)
    for mean, old, new in zip(average.parameters(), before, model.parameters(), strict=True):
        assert torch.allclose(mean, (old + new) / 2)
    average.eval()
    assert calls(average, x).ours == promised(model)
    with torch.no_grad():
        assert error(average(x), rk.unfuse(copy.deepcopy(average))(x)) < 1e-5


def test_sync_batchnorm(model):
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        assert not any(type(module) is nn.BatchNorm2d for module in converted.modules())
        assert torch.equal(converted(x), before)
    assert calls(converted, x).ours == promised(converted)
    assert rk.fuse_report(converted).fused_convolutions == 12


def test_fuse_after_sync_batchnorm():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(foreign("small")).eval()
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
        assert error(rk.fuse(model)(x), before) < 1e-5
    assert rk.fuse_report(model).fused_convolutions == 12


def test_functional_call(model):
    x = images(1, 3, 32, 32)
    doubled = {name: parameter * 1.1 for name, parameter in model.named_parameters()}
    with torch.no_grad():
        y = torch.func.functional_call(model, doubled, (x,))
        plain = torch.func.functional_call(rk.unfuse(copy.deepcopy(model)), doubled, (x,))
    assert error(y, plain) < 1e-5


@pytest.mark.parametrize(
    "make", [lambda: foreign("torchvision resnet18"), lambda: foreign("torchvision resnet50")]
)
def test_compile_fullgraph_and_export_keep_the_operators(make):
    model = rk.fuse(make().eval())
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        expected = model(x)
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        assert error(compiled(x), expected) < 1e-6
        exported = torch.export.export(model, (x,))
        assert error(exported.module()(x), expected) < 1e-6
    count = sum(str(node.target).startswith("resnet_kernels.") for node in exported.graph.nodes)
    assert count == sum(promised(model).values())


def test_own_network_compiles_and_exports():
    model = rk.models.resnet18(num_classes=10).eval()
    x = images(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(x)
        assert error(torch.compile(model, fullgraph=True, backend="aot_eager")(x), expected) < 1e-6
        batch = torch.export.Dim("batch", min=2, max=64)
        exported = torch.export.export(model, (x,), dynamic_shapes={"x": {0: batch}})
        assert exported.module()(images(5, 3, 32, 32)).shape == (5, 10)


def test_compiled_training():
    torch._dynamo.reset()
    model = rk.fuse(foreign("small"))
    y = torch.compile(model, fullgraph=True, backend="aot_eager")(images(2, 3, 32, 32))
    y.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_symbolic_tracing_sees_pytorchs_modules(model):
    x = images(1, 3, 32, 32)
    extractor = create_feature_extractor(model, ["layer2", "fc"])
    with torch.no_grad():
        assert error(extractor(x)["fc"], model(x)) < 1e-5


def test_timm_api_of_a_fused_network():
    model = rk.fuse(foreign("short timm resnet18").eval())
    x = images(1, 3, 64, 64)
    with torch.no_grad():
        features = model.forward_features(x)
        assert features.shape == (1, 512, 2, 2)
        assert model.forward_head(features, pre_logits=True).shape == (1, 512)
        last, intermediates = model.forward_intermediates(x)
        assert error(last, features) < 1e-5 and len(intermediates) == 5
        model.reset_classifier(10)
        assert model(x).shape == (1, 10)
        model.reset_classifier(0, "")
        assert model(x).shape == (1, 512, 2, 2)
        model.set_grad_checkpointing()
        assert error(model.forward_features(x), features) < 1e-5
