"""Match passes this package's kernels, in every direction and dtype, and fails what is wrong by a little."""

import random

import pytest
import torch
import torch.nn.functional as F

from resnet_kernels.measure import convolutions, elementwise, match, problems, units
from resnet_kernels.measure.case import Implementation, Ours

from .common import CPU, EAGER, KERNELS, engine

SOURCE = random.Random(2015)
CONV = problems.Conv(SOURCE.randint(1, 40), 7, SOURCE.randint(5, 9), SOURCE.randint(1, 40), 3, 2)
STEM = problems.Conv(3, 19, 18, 16, 7, 2)
DTYPES = ("bfloat16", "float16", "float32", "tf32")
WAYS = [(d, e) for d, epilogues in convolutions.EPILOGUES.items() for e in epilogues]


def judged(case):
    rows = {row.implementation: row for row in engine(choice="simulator").measure(case)}
    return rows["ours"], rows["eager_nhwc"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("direction", "epilogue"), WAYS)
def test_our_convolutions_match(direction, epilogue, dtype):
    conv = STEM if "maxpool" in epilogue else CONV
    ours, peer = judged(convolutions.case(conv, 2, dtype, direction, epilogue, EAGER, KERNELS))
    assert ours.status == "measured", ours.reason
    assert ours.match and ours.share <= 1, (CONV, ours.share)
    assert peer.match, (CONV, peer.share)
    assert ours.backend == "simulator" and peer.backend is None
    if dtype in ("bfloat16", "float16") and "none" not in epilogue:
        assert ours.error < 1.05 * peer.error  # one rounding, not several


@pytest.mark.parametrize("dtype", ("bfloat16", "float32"))
@pytest.mark.parametrize("name", elementwise.KERNELS)
def test_our_elementwise_kernels_match(name, dtype):
    shape = (SOURCE.randint(8, 40), 9, 6)
    ours, peer = judged(elementwise.case(name, shape, 3, dtype, EAGER, KERNELS, "a test"))
    assert ours.status == peer.status == "measured", (ours.reason, peer.reason)
    assert ours.match, (shape, ours.share)
    assert peer.match, (shape, peer.share)


@pytest.mark.parametrize("dtype", ("bfloat16", "float32"))
@pytest.mark.parametrize("epilogue", units.EPILOGUES)
@pytest.mark.parametrize("direction", ("train_forward", "train_backward"))
def test_our_trained_layers_match(direction, epilogue, dtype):
    ours, peer = judged(units.case(CONV, 4, dtype, direction, epilogue, EAGER, KERNELS))
    assert ours.match, ours.share
    assert peer.match and ours.error < 1.1 * match.RELATIVE_LIMIT[dtype] * peer.error


def right(i):
    """conv + BatchNorm + add + ReLU in float32, rounded once."""
    wide = {name: value.float() for name, value in i.items()}
    y = F.conv2d(wide["x"], wide["weight"], padding=1)
    y = F.batch_norm(y, i["mean"], i["var"], i["scale"], i["shift"], eps=1e-5)
    return y + wide["residual"]


def rounded(y, i):
    return y.relu().to(i["x"].dtype)


def one_value_next_door(i):
    """One element by two units in the last place; in float32 by what its sums may not be off by."""
    y = rounded(right(i), i)
    place = torch.unravel_index(y.abs().argmax(), y.shape)
    y[place] *= 1 + max(2 * torch.finfo(y.dtype).eps, 2e-5)
    return y


def border(i):
    """The last row of the padding is not zero: it repeats the image's edge."""
    wide = F.pad(F.pad(i["x"].float(), (1, 1, 1, 0)), (0, 0, 0, 1), mode="replicate")
    y = F.conv2d(wide, i["weight"].float())
    y = F.batch_norm(y, i["mean"], i["var"], i["scale"], i["shift"], eps=1e-5)
    return rounded(y + i["residual"].float(), i)


def epsilon(i):
    y = F.conv2d(i["x"].float(), i["weight"].float(), padding=1)
    y = F.batch_norm(y, i["mean"], i["var"], i["scale"], i["shift"], eps=3e-2)
    return rounded(y + i["residual"].float(), i)


def no_relu(i):
    return right(i).to(i["x"].dtype)


def twice_rounded(i):
    """To the short format after the convolution and again at the end: what an unfused kernel does."""
    y = F.conv2d(i["x"].float(), i["weight"].float(), padding=1).to(i["x"].dtype).float()
    y = F.batch_norm(y, i["mean"], i["var"], i["scale"], i["shift"], eps=1e-5)
    return rounded(y + i["residual"].float(), i)


def a_channel_missing(i):
    weight = i["weight"].clone()
    weight[:, -1] = 0
    return rounded(right(i | {"weight": weight}), i)


def not_a_number(i):
    y = rounded(right(i), i)
    y[0, 0, 0, 0] = float("nan")
    return y


def wrong_shape(i):
    return rounded(right(i), i)[:, :, :-1]


def unwritten_image(i):
    y = rounded(right(i), i)
    y[-1] = 0
    return y


WRONG = (
    one_value_next_door,
    border,
    epsilon,
    no_relu,
    a_channel_missing,
    not_a_number,
    wrong_shape,
    unwritten_image,
)


def judge_of(function, dtype):
    """The row of `function` in the place of ours, on a 3x3 convolution with everything behind it."""
    conv = problems.Conv(24, 8, 8, 24, 3, 1)
    case = convolutions.case(conv, 3, dtype, "fprop", "bn_add_relu", EAGER, Ours("cuda", "ours"))
    mine = Implementation("ours", "ours", lambda i: lambda: (function(i),), ours=True)
    peers = [other for other in case.implementations() if other.name == "eager_nhwc"]
    object.__setattr__(case, "implementations", lambda: [mine, *peers])
    rows = engine().measure(case)
    return next(row for row in rows if row.ours), next(row for row in rows if not row.ours)


@pytest.mark.parametrize("dtype", ("bfloat16", "float32"))
@pytest.mark.parametrize("function", WRONG)
def test_a_wrong_kernel_fails(function, dtype):
    row, peer = judge_of(function, dtype)
    assert row.status == "measured", row.reason
    assert row.match is False, f"share {row.share} of what is allowed"
    assert peer.match, "the judge itself is off"


def test_rounding_twice_fails_in_short_formats():
    for dtype in ("bfloat16", "float16"):
        assert judge_of(twice_rounded, dtype)[0].match is False


@pytest.mark.parametrize("dtype", ("bfloat16", "float16", "float32"))
def test_the_right_function_passes(dtype):
    row, _ = judge_of(lambda i: rounded(right(i), i), dtype)
    assert row.match and row.error < 0.01


def test_a_wrong_peer_is_not_the_best():
    """However fast it is."""
    conv = problems.Conv(8, 6, 6, 8, 3, 1)
    case = convolutions.case(conv, 2, "float32", "fprop", "none", EAGER, Ours("aten", "ours"))
    nothing = Implementation("nothing", "nothing", lambda i: lambda: (torch.empty(2, 8, 6, 6).fill_(0.1),))
    object.__setattr__(case, "implementations", lambda: [*before, nothing])
    before = [i for i in convolutions.case(
        conv, 2, "float32", "fprop", "none", EAGER, Ours("aten", "ours")
    ).implementations() if i.absent is None]  # fmt: skip
    rows = {row.implementation: row for row in engine().measure(case)}
    assert rows["nothing"].match is False and rows["ours"].best_peer == "eager_nhwc"
    assert "nothing" in rows["ours"].ratios


def test_relative_judgement():
    assert (
        match.relative(1.2e-3, 1e-3, "bfloat16").match and not match.relative(1.3e-3, 1e-3, "bfloat16").match
    )
    assert match.relative(1e-9, 0.0, "float32").match
    assert not match.relative(float("inf"), 1e-3, "float32").match
    x = torch.ones(3, device=CPU)
    assert match.distance([x * float("nan")], [x]) == float("inf")
    assert match.distance([x[:2]], [x]) == float("inf")
    assert match.distance([x * 1.5, x], [x, x]) == pytest.approx((0.75 / 6) ** 0.5)
