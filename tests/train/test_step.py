"""One iteration: the update is PyTorch's own, mixed precision near it, and what a GPU alone can do."""

import pytest
import torch
from torch.nn import functional

from resnet_kernels import models, train
from resnet_kernels.errors import UserError
from resnet_kernels.train.step import GraphedStep, Step

from .common import QUIET, SMALL

CPU = torch.device("cpu")


def network():
    torch.manual_seed(0)
    return models.create("cifar_resnet20", num_classes=10)


def batch(device=CPU):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 3, 8, 8, generator=generator)
    return images.to(device), torch.randint(0, 10, (8,), generator=generator).to(device)


def trained(recipe, kind=Step, device=CPU, steps=3):
    model = network().to(device)
    step = kind(model, model, recipe, device)
    counts = [step(*batch(device), learning_rate=0.1 / 2**k).clone() for k in range(steps)]
    return model.cpu().state_dict(), torch.stack(counts).cpu()


def test_a_step_is_pytorchs_momentum_and_decay():
    model, (images, labels) = network(), batch()
    velocity = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for k in range(3):
        loss = functional.cross_entropy(model(images), labels)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for (name, weight), gradient in zip(model.named_parameters(), gradients, strict=True):
                velocity[name].mul_(0.9).add_(gradient + 1e-4 * weight)
                weight -= 0.1 / 2**k * velocity[name]
    weights, _ = trained(SMALL)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weights[name], weight.detach(), rtol=1e-4, atol=1e-6)


def test_the_counts_are_of_the_batch_before_the_update():
    _, counts = trained(SMALL, steps=1)
    images, labels = batch()
    logits = network().train()(images)
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    assert counts[0, 0] == 8 and counts[0, 1] == (logits.argmax(1) != labels).sum()
    assert float(counts[0, 3]) == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_is_near_float32_and_is_not_it(dtype):
    exact, _ = trained(SMALL, steps=1)
    mixed, counts = trained(SMALL.replaced(dtype=dtype), steps=1)
    assert counts.isfinite().all() and all(mixed[key].dtype == exact[key].dtype for key in exact)
    error = torch.cat([(mixed[key] - exact[key]).flatten() for key in exact if "weight" in key])
    moved = torch.cat([(exact[k] - network().state_dict()[k]).flatten() for k in exact if "weight" in k])
    assert 0 < error.norm() < 0.3 * moved.norm()


def test_an_infinite_gradient_in_float16_is_skipped():
    model = network()
    step = Step(model, model, SMALL.replaced(dtype="float16"), CPU)
    images, labels = batch()
    step(images, labels, 0.1)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    scale = step.scaler.get_scale()
    step(images * 1e6, labels, 0.1)  # beyond float16
    assert all(torch.equal(before[name], weight) for name, weight in model.named_parameters())
    assert step.scaler.get_scale() == scale / 2


def test_a_cuda_graph_needs_a_gpu(tmp_path):
    with pytest.raises(UserError, match="--cuda-graph needs a GPU, and this run is on the CPU"):
        train.run(SMALL.replaced(cuda_graph=True), tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_cuda_graph_gives_the_same_bits(dtype):
    recipe, device = SMALL.replaced(dtype=dtype), torch.device("cuda", 0)
    eager, eager_counts = trained(recipe, Step, device)
    graphed, graphed_counts = trained(recipe, GraphedStep, device)
    assert torch.equal(eager_counts, graphed_counts)
    assert all(torch.equal(eager[key], graphed[key]) for key in eager)


@pytest.mark.gpu
def test_a_run_on_a_gpu_resumes_bit_for_bit(tmp_path):
    from .common import assert_same

    recipe = SMALL.replaced(dtype="bfloat16")
    options = {"tensorboard": False, "device": "cuda"}
    train.run(recipe, tmp_path / "whole", **options)
    train.run(recipe.replaced(iterations=9), tmp_path / "parts", **options)
    train.resume(tmp_path / "parts", iterations=recipe.iterations, **options)
    assert_same(tmp_path / "whole", tmp_path / "parts")
