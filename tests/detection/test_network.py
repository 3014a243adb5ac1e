"""The detector: what of the network is where, what is fixed, what runs on our operators, and RoI pooling."""

import pytest
import torch
from torch import nn
from torchvision.ops import MultiScaleRoIAlign

import resnet_kernels as rk
from resnet_kernels import _native, detection
from resnet_kernels.nn import BasicBlock

from ..nn.common import Calls, error, images, settle


def tiny(**options):
    """A detector on a network of one block a stage, for small images."""
    network = settle(rk.models.ResNet(BasicBlock, (1, 1, 1, 1), num_classes=2))
    options = {
        "anchor_sizes": (16, 32),
        "min_size": 64,
        "max_size": 64,
        "roi_size": 4,
        "regions": 8,
    } | options
    return detection.faster_rcnn(network, 3, **options)


def target():
    return {"boxes": torch.tensor([[5.0, 8, 40, 44]]), "labels": torch.tensor([2])}


def test_resnet101_in_the_place_of_vgg16():
    """Appendix A: 91 convolutions shared at stride 16, conv5_x and average pooling behind RoI pooling."""
    with torch.device("meta"):
        network = rk.models.resnet101()
        convolutions = sum(isinstance(module, nn.Conv2d) for module in network.modules())
        detector = detection.faster_rcnn(network, 20)
        shared = [
            module
            for name, module in detector.backbone.named_modules()
            if isinstance(module, nn.Conv2d) and "downsample" not in name
        ]
        features = detector.backbone(torch.empty(1, 3, 608, 1008))
        head = detector.roi_heads.box_head(torch.empty(300, 1024, 14, 14))
        scores, boxes = detector.roi_heads.box_predictor(head)
    assert len(shared) == 91
    assert features.shape == (1, 1024, 38, 63) and head.shape == (300, 2048)
    assert scores.shape == (300, 21) and boxes.shape == (300, 84)
    parts = [*detector.backbone.modules(), *detector.roi_heads.modules()]
    assert sum(isinstance(module, nn.Conv2d) for module in parts) == convolutions
    assert detector.rpn.post_nms_top_n() == 2000 and detector.eval().rpn.post_nms_top_n() == 300


def test_batchnorms_stay_fixed_in_training():
    detector = tiny().train()
    norms = [module for module in detector.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 12 and not any(module.training for module in norms)
    before = [module.running_mean.clone() for module in norms]
    sum(detector([images(3, 64, 64)], [target()]).values()).backward()
    assert all(torch.equal(a, module.running_mean) for a, module in zip(before, norms, strict=True))
    assert not any(parameter.requires_grad for module in norms for parameter in module.parameters())
    convolutions = [module for module in detector.modules() if isinstance(module, nn.Conv2d)]
    assert all(module.weight.grad is not None and module.weight.grad.any() for module in convolutions)
    assert detector.train().training


def test_evaluation_runs_the_network_on_our_operators_alone():
    detector = tiny().eval()
    with torch.no_grad(), Calls() as counted:
        detector([images(3, 64, 64).abs()])
    convolutions = 1 + 2 * 4 + 3  # the stem, two a block, the projections
    assert counted.ours == {"conv_bn_relu_maxpool": 1, "conv_fprop": convolutions - 1, "global_avg_pool": 1}
    assert counted.others["convolution"] == 3  # the proposals' own three
    assert not rk.fuse_report(detector.backbone).unfused


@pytest.mark.skipif(
    not _native.simulator_built(), reason="resnet_kernels._sim is not built: run `make build`"
)
def test_the_simulator_computes_the_same_losses_gradients_and_detections():
    results = []
    for backend in ("aten", "simulator"):
        torch.manual_seed(0)
        detector = tiny()
        with rk.backend(backend):
            torch.manual_seed(1)
            losses = detector.train()([images(3, 64, 64).abs()], [target()])
            sum(losses.values()).backward()
            with torch.no_grad():
                found = detector.eval()([images(3, 64, 64, seed=2).abs()])[0]
        results.append((losses, detector.backbone.conv1.weight.grad, found))
    (losses, gradient, found), (other_losses, other_gradient, other_found) = results
    for name, loss in losses.items():
        assert error(other_losses[name], loss) < 1e-4, name
    assert error(other_gradient, gradient) < 1e-3
    assert len(found["boxes"]) and error(other_found["boxes"], found["boxes"]) < 1e-4


def test_mixed_precision_is_of_the_network_alone():
    detector = tiny(dtype="bfloat16").eval()
    exact = tiny()
    exact.load_state_dict(detector.state_dict())
    x = images(2, 3, 64, 64)
    with torch.no_grad(), Calls() as counted:
        features = detector.backbone(x)
    assert features.dtype == torch.float32 and counted.ours["conv_fprop"] == 8
    with torch.no_grad():
        assert 1e-4 < error(features, exact.eval().backbone(x)) < 2e-2
    losses = detector.train()([images(3, 64, 64)], [target()])
    sum(losses.values()).backward()
    assert detector.backbone.conv1.weight.grad.isfinite().all()
    assert detector.backbone.conv1.weight.dtype == torch.float32


def test_roi_pooling_takes_the_maximum_of_each_cell():
    pool = tiny().roi_heads.box_roi_pool
    features = {"0": images(1, 2, 8, 8)}
    pooled = pool(features, [torch.tensor([[0.0, 0, 112, 112]])], [(128, 128)])
    expected = torch.nn.functional.max_pool2d(features["0"], 2)
    assert torch.equal(pooled, expected)
    aligned = tiny(pooling="align").roi_heads.box_roi_pool
    assert type(aligned) is MultiScaleRoIAlign and aligned.output_size == (4, 4)


def test_measured_statistics_normalise():
    torch.manual_seed(0)
    network = rk.models.ResNet(BasicBlock, (1, 1, 1, 1), num_classes=2).eval()
    batches = [images(8, 3, 48, 48, seed=seed) * 3 + 1 for seed in range(4)]
    detection.measure_statistics(network, batches)
    assert not network.training and network.bn1.momentum == 0.1
    seen = []
    network.bn1.register_forward_hook(lambda module, args, y: seen.append(y.clone()))  # before ReLU
    with torch.no_grad():
        for batch in batches:
            network(batch)
    y = torch.cat(seen)
    assert y.mean((0, 2, 3)).abs().max() < 1e-3 and (y.var((0, 2, 3)) - 1).abs().max() < 2e-2


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: detection.faster_rcnn(nn.Conv2d(3, 3, 1), 2),
            TypeError,
            "network must be a ResNet, got Conv2d",
        ),
        (lambda: tiny(pooling="mean"), ValueError, "pooling must be one of 'max', 'align'"),
        (lambda: tiny(dtype="float16"), ValueError, "dtype must be one of 'float32', 'bfloat16'"),
        (lambda: tiny(roi_size=0), ValueError, "roi_size must be at least 1"),
        (lambda: tiny(anchor_sizes=(16, -1)), ValueError, r"anchor_sizes\[1\] must be at least 1, got -1"),
    ],
)
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
