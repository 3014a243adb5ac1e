"""The views of an image are the pieces of it that the paper names."""

import pytest
import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from resnet_kernels.evaluate.views import KINDS, SIDES, Views


def gradient(height, width):
    """An image [3, H, W] whose values tell where a pixel came from: red its row, green its column."""
    rows = torch.linspace(0, 255, height)[:, None].expand(height, width)
    columns = torch.linspace(0, 255, width)[None].expand(height, width)
    return torch.stack([rows, columns, torch.zeros(height, width)]).round().to(torch.uint8)


def test_single_is_the_image_itself():
    image = gradient(32, 32)
    (view,) = Views("single")(image)
    assert view is image


@pytest.mark.parametrize(("height", "width"), [(300, 500), (777, 300), (100, 100)])
def test_center_is_the_middle_of_the_image_at_256(height, width):
    (view,) = Views("center")(gradient(height, width))
    assert view.shape == (3, 224, 224)
    for channel, size in ((0, height), (1, width)):
        share = 224 / (256 * size / min(height, width))  # of this side that the crop sees
        seen = (int(view[channel].max()) - int(view[channel].min())) / 255
        assert seen == pytest.approx(share, abs=0.02)
        assert float(view[channel].float().mean()) == pytest.approx(127.5, abs=2)


def test_ten_are_corners_centre_and_their_mirror_images():
    image = gradient(256, 320)
    views = Views("ten")(image)
    assert len(views) == 10 == Views("ten").count
    corners = [(0, 0), (0, 96), (32, 0), (32, 96), (16, 48)]
    for i, (top, left) in enumerate(corners):
        crop = image[:, top : top + 224, left : left + 224]
        assert torch.equal(views[i], crop)
        assert sum(torch.equal(view, crop.flip(-1)) for view in views[5:]) == 1


def test_multiscale_are_whole_images_at_five_sizes():
    views = Views("multiscale")(gradient(300, 400))
    assert [tuple(view.shape[1:]) for view in views[::2]] == [(side, side * 4 // 3) for side in SIDES]
    for view, mirror in zip(views[::2], views[1::2], strict=True):
        assert torch.equal(view.flip(-1), mirror)
        assert int(view[1].max()) - int(view[1].min()) > 250  # nothing is cut off
    assert len(views) == 10 == Views("multiscale").count


@pytest.mark.parametrize("kind", KINDS)
def test_photographs_are_taken_as_pil_opens_them(kind):
    views = Views(kind, sides=(64, 80))(Image.new("RGB", (290, 260)))
    assert len(views) == Views(kind, sides=(64, 80)).count
    assert all(isinstance(view, Image.Image) for view in views)


def test_pooling_once_is_the_mean_of_a_dense_map_of_scores():
    """Why no fully connected layer has to be made convolutional: both give the same logits."""
    features, weight, bias = torch.randn(2, 16, 9, 12), torch.randn(5, 16), torch.randn(5)
    pooled = adaptive_avg_pool2d(features, 1).flatten(1) @ weight.T + bias
    dense = torch.einsum("nchw,kc->nkhw", features, weight) + bias[:, None, None]
    torch.testing.assert_close(pooled, avg_pool2d(dense, (9, 12)).flatten(1))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"kind": "five"}, "kind"),
        ({"kind": "ten", "crop": 300}, "crop"),
        ({"kind": "ten", "crop": 0}, "crop"),
        ({"kind": "multiscale", "sides": ()}, "sides"),
        ({"kind": "multiscale", "sides": (224, 0)}, "sides"),
    ],
)
def test_wrong_arguments_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        Views(**options)
