"""The cost model: each term against its formula by hand, and what any model of time must obey."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_kernels.tuning import H200

from .tasks import HOPPER, KEPT, PORTABLE, TILES, by_name, chosen, legal, needs_simulator, resnet50, task

pytestmark = needs_simulator

HBM, L2, WGMMA, MMA, LAUNCH = 4.3e12, 7e12, 790e12, 0.6 * 790e12, 3e-6
PIXELS = 256 * 56 * 56


def near(value):
    return pytest.approx(value, rel=1e-9)


def test_memory_is_every_operand_once():
    bytes_moved = 2 * (2 * PIXELS * 64 + 64 * 64 * 9)
    for choice in legal(task()).values():
        assert choice.memory == near(bytes_moved / HBM)


def test_a_strided_pointwise_convolution_reads_a_quarter():
    found = legal(task(c=256, k=512, kernel=1, stride=2))["sm90/128x256"]
    assert found.memory == near(2 * (PIXELS // 4 * (256 + 512) + 256 * 512) / HBM)


def test_the_feed_by_hand():
    """The source once a tap and column of tiles; the weights once a row of tiles, or of a cluster's two."""
    found, depth = by_name(task(c=256, size=14, k=256)), 9 * 256
    rows = 256 * 14 * 14
    for name, (high, wide) in TILES.items():
        down = math.ceil(rows / high)
        if name in HOPPER:
            down = math.ceil(rows / (2 * high))
        assert found[name].feed == near(2 * depth * (rows * math.ceil(256 / wide) + 256 * down) / L2)


@pytest.mark.parametrize(
    ("name", "share"),
    [("128x256", 1), ("256x128", 1024 / 1152), ("128x128", 512 / 640), ("256x64", 512 / 832)],
)
def test_what_shared_memory_leaves_of_wgmma(name, share):
    """Clocks of wgmma over those of shared memory at 128 bytes a clock, by hand."""
    wanted = task(n=H200 * 64, c=64, size=16, k=256, kernel=1)  # whole waves of whole tiles
    choice = by_name(wanted)[f"sm90/{name}"]
    assert choice.efficiency == 1
    assert choice.math == near(2 * H200 * 64 * 16 * 16 * 64 * 256 / (WGMMA * share))


def test_weights_that_stay_are_loaded_once_a_multiprocessor():
    """Pixels are wgmma's columns then: a stage takes 384 clocks to multiply, 448 of shared memory."""
    kept = by_name(task())[KEPT]
    tiles = math.ceil(PIXELS / 192)
    assert kept.tiles == tiles
    assert kept.feed == near(2 * 576 * (PIXELS + 64 * H200) / L2)
    flops = 2 * tiles * 192 * 64 * 576
    assert kept.math * kept.efficiency == near(flops / (WGMMA * 384 / 448))
    few = by_name(task(n=1, size=14))[KEPT]
    assert few.feed == near(2 * 576 * (14 * 14 + 64 * 2) / L2)


def test_the_portable_tiles_rates():
    wanted = task(n=H200 * 64, c=64, size=16, k=128, kernel=1)
    flops = 2 * H200 * 64 * 16 * 16 * 64 * 128
    for name, speed in zip(PORTABLE, (1, 0.67, 0.5), strict=True):
        assert by_name(wanted)[name].math == near(flops / (MMA * speed))


def test_waves():
    """Stage 4 at batch 256: 196 tiles of 128x256 leave a quarter of the second wave's time empty."""
    found = by_name(task(c=512, size=7, k=512))
    wide, square = found["sm90/128x256"], found["sm90/128x128"]
    assert (wide.tiles, square.tiles) == (196, 392)
    assert wide.waves == near(196 / 132) and wide.efficiency == near(196 / 264)
    assert square.efficiency == near(392 / 396)
    assert found["sm80/128x128"].waves == near(392 / 264)
    assert chosen(task(c=512, size=7, k=512)) == "sm90/128x128"


def test_clusters_are_whole():
    assert by_name(task(n=1, c=64, size=8, k=64))["sm90/128x256"].tiles == 2
    assert by_name(task(n=1, c=64, size=8, k=64))["sm80/128x128"].tiles == 1


def test_dgrads_phases_and_its_transposition():
    """A strided 3x3: four phases of 1, 2, 2 and 4 taps, as many FLOPs as forward, in one launch on sm_90."""
    found = by_name(task("dgrad", c=256, size=28, k=256, stride=2))
    square = found["sm90/128x128"]
    rows = 256 * 14 * 14  # of each phase: whole clusters
    assert square.tiles == 4 * rows // 128 * 2
    assert square.math * square.efficiency == near(2 * 9 * rows * 256 * 256 / (WGMMA * 0.8))
    assert square.launches == near(LAUNCH)
    portable = found["sm80/128x128"]
    assert portable.launches == near(2 * LAUNCH)
    assert portable.memory - square.memory == near(2 * 2 * 9 * 256 * 256 / HBM)


def test_wgrad_splits_its_pixels():
    choice = by_name(task("wgrad", c=256, size=14, k=256))["sm80/128x128"]
    assert choice.tiles == 7 * 36  # 264 blocks are resident at once
    partials = 2 * 4 * 7 * 9 * 256 * 256
    assert choice.memory == near((2 * (2 * 256 * 14 * 14 * 256 + 9 * 256 * 256) + partials) / HBM)
    assert choice.launches == near(2 * LAUNCH)


@pytest.mark.parametrize("operation", ["fprop", "dgrad", "wgrad"])
@pytest.mark.parametrize("batch", [1, 32, 256])
def test_time_is_the_longest_term_and_the_chosen_is_the_least(operation, batch):
    for wanted in resnet50(operation, batch):
        found = legal(wanted)
        for choice in found.values():
            terms = {"memory": choice.memory, "feed": choice.feed, "math": choice.math}
            assert choice.seconds == near(max(terms.values()) + choice.launches)
            assert terms[choice.bound] == max(terms.values())
            assert 0 < choice.efficiency <= 1
        if operation != "wgrad":
            assert found[chosen(wanted)].seconds == min(choice.seconds for choice in found.values())


sizes = st.tuples(
    st.integers(1, 300),
    st.sampled_from([8, 24, 64, 256]),
    st.integers(4, 60),
    st.sampled_from([8, 64, 72, 256]),
    st.sampled_from([1, 3]),
    st.integers(1, 2),
)


@given(sizes, st.sampled_from(["fprop", "dgrad"]), st.sampled_from([1, 20, 132]))
def test_more_work_takes_longer_and_twice_as_much_at_most_twice_as_long(size, operation, multiprocessors):
    n, *rest = size
    one = legal(task(operation, n, *rest, multiprocessors=multiprocessors))
    more = legal(task(operation, n + 1, *rest, multiprocessors=multiprocessors))
    two = legal(task(operation, 2 * n, *rest, multiprocessors=multiprocessors))
    for name in one:
        for term in ("memory", "feed", "math", "seconds"):
            before, after, double = (getattr(found[name], term) for found in (one, more, two))
            assert before <= after * (1 + 1e-9)
            assert double <= 2 * before * (1 + 1e-9)
    assert one.keys() == two.keys()
    least = [min(choice.seconds for choice in found.values()) for found in (one, more)]
    assert least[0] <= least[1] * (1 + 1e-9)


@given(sizes)
def test_more_channels_take_longer(size):
    n, c, image, k, kernel, stride = size
    one = legal(task("fprop", n, c, image, k, kernel, stride))
    for wider in (
        task("fprop", n, c + 8, image, k, kernel, stride),
        task("fprop", n, c, image, k + 8, kernel, stride),
    ):
        for name, choice in legal(wider).items():
            assert choice.memory > one[name].memory
            assert choice.seconds >= one[name].seconds * (1 - 1e-9)


def test_more_multiprocessors_take_no_longer():
    few, many = (legal(task(multiprocessors=count)) for count in (66, 132))
    for name in few:
        assert many[name].seconds <= few[name].seconds
