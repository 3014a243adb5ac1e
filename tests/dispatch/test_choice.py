"""Which configuration is chosen, and why others cannot compute a problem."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resnet_kernels as rk
from resnet_kernels.errors import UserError
from resnet_kernels.tuning import Task

from .tasks import (
    CONVOLUTIONS,
    HOPPER,
    KEPT,
    ON_LOAD,
    PORTABLE,
    SM_90,
    WGRAD,
    by_name,
    chosen,
    legal,
    needs_simulator,
    resnet50,
    task,
)

pytestmark = needs_simulator

TRAITS = {"128x128": (2, 1.0), "128x64": (3, 0.67), "64x64": (3, 0.5)}  # blocks an SM, speed


def portable(rows: int, columns: int, sm_count: int, tiles: tuple[str, ...]) -> str:
    """The portable tile with the least padded area on the busiest multiprocessor; the larger one in a tie."""

    def time(name: str) -> float:
        high, wide = map(int, name.split("x"))
        blocks_per_sm, speed = TRAITS[name]
        blocks = math.ceil(rows / high) * math.ceil(columns / wide)
        whole, rest = divmod(blocks, sm_count * blocks_per_sm)
        return (whole * blocks_per_sm + math.ceil(rest / sm_count)) * high * wide / speed

    return f"sm80/{min(tiles, key=time)}"


@given(
    st.tuples(st.integers(1, 64), st.integers(1, 300), st.integers(1, 40), st.integers(1, 600)),
    st.sampled_from(["bfloat16", "tf32", "float32"]),
    st.sampled_from(["fprop", "dgrad"]),
    st.sampled_from([1, 2, 108, 132]),
)
def test_on_sm_80_the_portable_tile_is_what_it_was(size, dtype, operation, sm_count):
    n, c, image, k = size
    wanted = task(operation, n, c, image, k, 1, dtype=dtype, multiprocessors=sm_count)
    depth, columns = (c, k) if operation == "fprop" else (k, c)
    tiles = tuple(TRAITS)
    if dtype == "float32":
        tiles = tiles[1:]
    if depth % (8 if dtype == "bfloat16" else 4):
        tiles = tiles[-1:]
    assert chosen(wanted, 80) == portable(n * image * image, columns, sm_count, tiles)


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 3]))
def test_wgrads_portable_tile_is_what_it_was(c, k, kernel):
    wanted = task("wgrad", 2, c, 9, k, kernel)
    channels = wanted.x[1]
    large = channels % 8 == 0 and k % 8 == 0 and k > 64 and channels * kernel**2 > 64
    assert chosen(wanted, 80) == f"sm80/{'128x128' if large else '64x64'}"


def test_every_configuration_of_sm_90_is_somebodys_choice():
    """Over ResNet-50 forward, with small problems left to portable tiles."""
    found = {chosen(wanted) for batch in (1, 32, 256) for wanted in resnet50("fprop", batch)}
    assert {"sm90/128x256", "sm90/256x128", "sm90/128x128", KEPT, "sm80/64x64"} <= found
    assert chosen(task(c=256, size=14, k=256)) == "sm90/128x256"
    assert chosen(task()) == KEPT
    assert chosen(task(c=256, kernel=3)) == "sm90/256x64"  # whose weights do not fit
    assert chosen(task(kernel=1), on_load="two") == ON_LOAD


@pytest.mark.parametrize(
    ("wanted", "demands", "reason"),
    [
        (task(dtype="float32"), {}, "only bfloat16 and float16"),
        (task(dtype="tf32"), {}, "only bfloat16 and float16"),
        (task(c=68), {}, "multiples of 8"),
        (task(k=68), {}, "multiples of 8"),
        (task("dgrad", k=68), {}, "multiples of 8"),
        (task("dgrad", c=68), {}, "multiples of 8"),
        (task(), {"aligned_source": False}, "not aligned to 16 bytes"),
        (task(), {"aligned_rest": False}, "not aligned to 16 bytes"),
        (task(), {"residual_view": True}, "not of the output's shape"),
        (task(kernel=1), {"on_load": "other"}, "only portable kernels"),
        (task(stride=9), {}, "step 1 to 8"),
        (task(n=1, size=300, kernel=3, dilation=128, padding=100), {}, "255 pixels apart"),
        (task(n=1, size=16, kernel=1, padding=129), {}, "-128..127"),
        (task(n=1, size=300, kernel=131, padding=0), {}, "-128..127"),
        (task("dgrad", stride=3), {}, "more than four phases"),
    ],
)
def test_sm_90_refuses(wanted, demands, reason):
    found = by_name(wanted, **demands)
    for name in HOPPER:
        assert reason in found[name].refused
    assert all(found[name].refused for name in SM_90)
    assert chosen(wanted, **demands) in PORTABLE
    assert chosen(wanted, **demands) == chosen(wanted, 80, **demands)


@pytest.mark.parametrize(
    "wanted",
    [
        task(stride=8),
        task(n=1, size=300, kernel=2, dilation=255, padding=127),
        task(n=1, size=16, kernel=1, padding=127),
        task(n=1, size=300, kernel=128, padding=0),
        task("dgrad", stride=2),
        task("dgrad", kernel=1, stride=2),
        task(dtype="float16"),
        task(c=8, k=8),
    ],
)
def test_sm_90_takes(wanted):
    assert set(HOPPER) <= legal(wanted).keys()


@pytest.mark.parametrize(
    ("on_load", "there"),
    [
        ("nothing", {*HOPPER}),
        ("one", {"sm90/128x256", "sm90/128x128", ON_LOAD}),
        ("two", {"sm90/128x128", ON_LOAD}),
        ("other", set()),
    ],
)
def test_what_sm_90_makes_on_load(on_load, there):
    """Through registers, which tiles of 128 rows leave; a second source takes room in shared memory."""
    for operation in ("fprop", "dgrad"):
        found = by_name(task(operation, c=256, k=128, kernel=1), on_load=on_load)
        assert {name for name in SM_90 if not found[name].refused} == there


@pytest.mark.parametrize(
    "wanted",
    [
        task(c=72, kernel=1),
        task("dgrad", k=72, kernel=1),
        task(c=64, kernel=3),
        task(c=64, kernel=1, stride=2),
    ],
)
def test_on_load_is_for_pointwise_convolutions_of_whole_stages(wanted):
    found = by_name(wanted, on_load="two")
    assert "64 channels" in found["sm90/128x128"].refused
    assert chosen(wanted, on_load="two") in PORTABLE


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (task(), ""),
        (task(c=576, kernel=1), ""),
        (task("dgrad", k=64), ""),
        (task(c=584, kernel=1), "do not fit"),
        (task(c=72), "do not fit"),
        (task("dgrad", k=72), "do not fit"),
        (task(k=72), "at most 64 channels"),
        (task("dgrad", c=72), "at most 64 channels"),
    ],
)
def test_whose_weights_stay_in_shared_memory(wanted, reason):
    refused = by_name(wanted)[KEPT].refused
    assert reason in refused if reason else not refused


@pytest.mark.parametrize(
    ("wanted", "demands", "reason"),
    [
        (task("wgrad"), {}, ""),
        (task("wgrad", kernel=1), {}, ""),
        (task("wgrad", kernel=1), {"on_load": "one"}, ""),
        (task("wgrad", kernel=1, stride=2), {"on_load": "one"}, ""),
        (task("wgrad"), {"on_load": "one"}, "an elementwise pass is cheaper"),
        (task("wgrad", kernel=1, padding=1), {"on_load": "one"}, "an elementwise pass is cheaper"),
        (task("wgrad", c=384, k=128, kernel=1), {"on_load": "one"}, "no registers"),
        (task("wgrad"), {"on_load": "two"}, "no more"),
        (task("wgrad"), {"aligned_source": False}, "aligned"),
        (task("wgrad", c=68), {}, "multiples of 8"),
        (task("wgrad", dtype="tf32"), {}, "only bfloat16"),
        (task("wgrad", stride=9), {}, "window"),
        (task("fprop"), {}, "conv_wgrad's"),
    ],
)
def test_wgrad_on_sm_90(wanted, demands, reason):
    """One configuration, which plans its tile: chosen where its own estimate says so."""
    found = by_name(wanted, **demands)
    refused = found[WGRAD].refused
    assert reason in refused if reason else not refused
    assert not found[WGRAD].chosen or not refused
    if wanted.operation == "wgrad":
        assert all("no such tile" in found[name].refused for name in HOPPER)
        assert chosen(wanted, 80, **demands) in PORTABLE


def test_large_gradients_of_weights_are_sm_90s():
    for wanted in (task("wgrad"), task("wgrad", c=256, size=14, k=256), task("wgrad", c=512, size=7, k=512)):
        assert chosen(wanted) == WGRAD
        choice = by_name(wanted)[WGRAD]
        assert 0 < choice.efficiency <= 1
        assert choice.seconds > max(choice.memory, choice.feed, choice.math)


def test_resnet50s_pointwise_gradients_of_weights_normalise_on_load():
    """Of its bottlenecks' last convolutions, whose activation is not kept."""
    last = [conv for conv in CONVOLUTIONS if conv.kernel == 1 and conv.k == 4 * conv.c]
    assert len(last) == 4
    for conv in last:
        for batch in (32, 256):
            wanted = task("wgrad", batch, conv.c, conv.h, conv.k, 1)
            assert not by_name(wanted, on_load="one")[WGRAD].refused


def test_a_second_source_is_read_too():
    for name, choice in by_name(task(kernel=1), on_load="two").items():
        if not choice.refused:
            one = by_name(task(kernel=1), on_load="one")[name]
            assert choice.memory - one.memory == pytest.approx(2 * 256 * 56 * 56 * 64 / 4.3e12)
            assert choice.feed > one.feed


def test_other_gpus_run_the_portable_kernels():
    assert set(legal(task(), 80)) == set(PORTABLE)
    assert all("compute capability 9.0" in by_name(task(), 80)[name].refused for name in HOPPER)


@pytest.mark.parametrize(
    ("wanted", "demands", "left"),
    [
        (task(c=60), {}, {"sm80/64x64"}),
        (task(), {"aligned_source": False}, {"sm80/64x64"}),
        (task(), {"aligned_rest": False}, set(PORTABLE)),
        (task(dtype="float32"), {}, {"sm80/128x64", "sm80/64x64"}),
        (task("wgrad"), {}, {"sm80/128x128", "sm80/64x64"}),
        (task("wgrad", k=60), {}, {"sm80/64x64"}),
    ],
)
def test_what_portable_kernels_there_are(wanted, demands, left):
    assert set(legal(wanted, 80, **demands)) == left


def test_a_task_pads_as_the_operators_do():
    assert Task.of("fprop", "bfloat16", (1, 3, 9, 9), (8, 3, 3, 3)).x == (1, 8, 9, 9)
    assert Task.of("wgrad", "tf32", (1, 3, 9, 9), (8, 3, 3, 3)).weight == (8, 4, 3, 3)
    assert Task.of("fprop", "bfloat16", (1, 3, 9, 9), (8, 3, 1, 1)).x == (1, 3, 9, 9)
    assert Task.of("dgrad", "bfloat16", (1, 3, 9, 9), (8, 3, 3, 3)).x == (1, 3, 9, 9)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("sgrad", "bfloat16", (1, 8, 9, 9), (8, 8, 3, 3)), "sgrad"),
        (("fprop", "float64", (1, 8, 9, 9), (8, 8, 3, 3)), "float64"),
        (("fprop", "bfloat16", (1, 8, 9, 9), (8, 16, 3, 3)), "no convolution"),
        (("fprop", "bfloat16", (1, 8, 9), (8, 8, 3, 3)), "no convolution"),
        (("fprop", "bfloat16", (0, 8, 9, 9), (8, 8, 3, 3)), "out of range"),
        (("fprop", "bfloat16", (1, 8, 2, 9), (8, 8, 3, 3)), "larger than"),
    ],
)
def test_wrong_tasks(arguments, word):
    with pytest.raises(UserError, match=word):
        Task.of(*arguments)


def test_an_unknown_capability():
    with pytest.raises(UserError, match="capability"):
        rk.tuning.choices(task(), 75)
    with pytest.raises(UserError, match="on_load"):
        rk.tuning.choices(task(), on_load="three")
