"""Augmentation: sizes, what moves and what does not, and the mean that is subtracted."""

import pickle

import pytest
import torch

from resnet_kernels import data
from resnet_kernels.data.views import PCAColour, centre

NOTHING = data.Normalisation(torch.zeros(3, 1, 1), torch.ones(3, 1, 1))


def one_image(name, image, size):
    images = data.TensorImages(image[None], torch.zeros(1, dtype=torch.int64))
    return data.DataSet(name, images, images, ("only",), size)


def ramp(height, width):
    """An image whose first channel is the column, its second the row, its third zero."""
    columns = torch.arange(width, dtype=torch.uint8).expand(height, width)
    rows = torch.arange(height, dtype=torch.uint8)[:, None].expand(height, width)
    return torch.stack([columns, rows, torch.zeros_like(rows)])


def test_cifar10_crops_padded_images_and_flips():
    image = ramp(32, 32) + 1  # padding is zero
    view = data.training_view(one_image("cifar10", image, 32), NOTHING)
    lefts, tops, flipped = set(), set(), 0
    for _ in range(400):
        x = (view(image) * 255).round().int()
        assert x.shape == (3, 32, 32)
        inside = x[0] > 0
        columns = x[0].max(0).values
        rising = columns[columns > 0]
        flipped += int(rising[1] < rising[0])
        if rising[1] < rising[0]:
            columns = columns.flip(0)
        rows = x[1].max(1).values
        lefts.add(int((columns - torch.arange(32))[columns > 0][0]))
        tops.add(int((rows - torch.arange(32))[rows > 0][0]))
        assert inside.sum() >= 28 * 28
    assert lefts == tops == set(range(-3, 6))  # 1 + every shift from -4 to 4
    assert 150 < flipped < 250


def test_digits_move_by_a_pixel_and_are_never_mirrored():
    image = ramp(8, 8) + 1
    view = data.training_view(one_image("digits", image, 8), NOTHING)
    shifts = set()
    for _ in range(100):
        columns = (view(image) * 255).round().int()[0].max(0).values
        rising = columns[columns > 0]
        assert (rising.diff() == 1).all()
        shifts.add(int((columns - torch.arange(8))[columns > 0][0]))
    assert shifts == {0, 1, 2}


def test_imagenet_scales_crops_flips_and_colours():
    image = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8)
    view = data.training_view(one_image("imagenet", image, 56), NOTHING)
    views = torch.stack([view(image) for _ in range(20)])
    assert views.shape == (20, 3, 56, 56) and views.dtype == torch.float32
    assert torch.pdist(views.flatten(1)).min() > 0.1  # no two alike
    # The scale: a crop of 56 of a ramp over 120 columns spans 56 / (shorter side * 120 / 90) of it, and the
    # shorter side lies in [64, 120], a quarter of [256, 480].
    wide = ramp(90, 120)
    view = data.training_view(one_image("imagenet", wide, 56), NOTHING)
    spans = [float(255 * view(wide)[0].mean(0).diff().abs().mean() * 56) for _ in range(200)]
    assert 40 < min(spans) < 45 and 70 < max(spans) < 80  # 120 * 56 / 160 = 42, 120 * 56 / 85 = 79


def test_colour_is_one_normal_step_along_the_components():
    torch.manual_seed(3)
    colour, image = PCAColour(), torch.rand(3, 4, 5)
    steps = torch.stack([colour(image) - image for _ in range(4000)])
    assert steps.std((2, 3)).max() < 1e-6  # the same for all pixels
    components = torch.tensor(PCAColour.COMPONENTS)
    coefficients = steps[:, :, 0, 0] @ components / torch.tensor(PCAColour.EIGENVALUES)
    assert (coefficients.std(0) - 0.1).abs().max() < 0.006 and coefficients.mean(0).abs().max() < 0.006


def test_the_test_view_is_the_centre():
    image = ramp(90, 90)
    assert torch.equal(centre(image, 90), image)
    view = data.test_view(one_image("imagenet", image, 56), NOTHING)
    x = 255 * view(image)
    assert torch.equal(x, 255 * view(image))
    # Shorter side 64, margins of 4: column j holds the ramp at (j + 4.5) * 90 / 64 - 0.5.
    expected = (torch.arange(56) + 4.5) * 90 / 64 - 0.5
    assert (x[0].mean(0) - expected).abs().max() < 1


def test_normalisation_subtracts_the_training_mean():
    digits = data.load("digits")
    norm = data.normalisation(digits)
    assert norm.mean.shape == (3, 8, 8)
    total = sum(norm(digits.train[k][0]).double() for k in range(len(digits.train)))
    assert (total / len(digits.train)).abs().max() < 1e-6
    again = data.Normalisation.of(norm.state())
    assert torch.equal(again(digits.test[0][0]), norm(digits.test[0][0]))


def test_normalisation_at_another_size_takes_the_mean_by_channel():
    norm = data.Normalisation(torch.rand(3, 4, 4), torch.full((3, 1, 1), 2.0))
    image = torch.randint(0, 256, (5, 3, 6, 7), dtype=torch.uint8)
    expected = (image / 255 - norm.mean.mean((1, 2), keepdim=True)) / 2
    torch.testing.assert_close(norm(image), expected)
    torch.testing.assert_close(norm(image / 255), expected)


def test_imagenets_mean_is_that_of_centre_crops(imagenet):
    found = data.load("imagenet", imagenet, size=28)
    crops = torch.stack([centre(found.train[k][0], 28).double() for k in range(6)])
    torch.testing.assert_close(data.normalisation(found).mean, (crops.mean(0) / 255).float())


@pytest.mark.parametrize("name", ["imagenet", "cifar10", "digits"])
def test_views_can_be_sent_to_other_processes(name):
    image = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    dataset = one_image(name, image, 40 if name != "imagenet" else 28)
    for view in (data.training_view(dataset, NOTHING), data.test_view(dataset, NOTHING)):
        sent = pickle.loads(pickle.dumps(view))
        torch.manual_seed(1)
        expected = view(image)
        torch.manual_seed(1)
        assert torch.equal(sent(image), expected)
