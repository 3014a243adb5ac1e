"""The stream of training images: complete, shuffled, and the same wherever, and on however many, it runs."""

import random

import pytest
import torch

from resnet_kernels import data


def numbered(count):
    """Images that say which they are: their label and every pixel is their number."""
    labels = torch.arange(count)
    pixels = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()
    return data.TensorImages(pixels, labels)


def noisy(image):
    return image.float() + torch.rand(3, 1, 1)


def stream(images, **options):
    return list(
        data.training_batches(images, noisy, **{"batch": 6, "seed": 5, "first": 0, "last": 20} | options)
    )


def equal(left, right):
    return len(left) == len(right) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(left, right, strict=True)
    )


def test_every_epoch_holds_every_image_once_in_another_order():
    images = numbered(20)
    batches = stream(images)  # 120 positions: six epochs
    assert all(
        x.shape == (6, 3, 4, 4) and x.is_contiguous(memory_format=torch.channels_last) for x, _ in batches
    )
    labels = torch.cat([y for _, y in batches]).view(6, 20)
    assert (labels.sort(1).values == torch.arange(20)).all()
    assert len({tuple(row.tolist()) for row in labels}) == 6
    assert all(torch.equal(x[:, 0, 0, 0].floor().long(), y) for x, y in batches)
    noise = torch.cat([x[:, 0, 0, 0].frac() for x, _ in batches])
    assert len(noise.unique()) == 120  # every visit of an image is augmented anew


@pytest.mark.parametrize("workers", [0, 2])
def test_it_can_be_entered_anywhere(workers):
    images, first = numbered(20), random.Random(0).randrange(1, 20)
    assert equal(stream(images)[first:], stream(images, first=first, workers=workers))


def test_ranks_share_every_batch():
    images = numbered(20)
    whole, parts = stream(images), [stream(images, rank=rank, world=3) for rank in range(3)]
    joined = [
        (torch.cat([x for x, _ in part]), torch.cat([y for _, y in part]))
        for part in zip(*parts, strict=True)
    ]
    assert equal(whole, joined)
    with pytest.raises(ValueError, match="multiple of world = 4"):
        stream(images, world=4)


def test_the_seed_decides_and_the_callers_random_numbers_are_left_alone():
    images = numbered(20)
    assert not equal(stream(images), stream(images, seed=6))
    state = torch.get_rng_state()
    for workers in (0, 1):
        stream(images, workers=workers)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("world", [1, 3])
def test_a_test_set_is_seen_once_in_order(world):
    images = numbered(11)
    parts = [data.batches(images, noisy, batch=2, rank=rank, world=world) for rank in range(world)]
    labels = [torch.cat([y for _, y in part]) for part in parts]
    assert all(torch.equal(part, torch.arange(rank, 11, world)) for rank, part in enumerate(labels))
    assert len(data.batches(images, noisy, batch=2)) == 6
