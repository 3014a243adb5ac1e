"""Every argument wrong in every way: an exception of the right type that names operator and argument."""

import re

import pytest
import torch

import resnet_kernels as rk
from resnet_kernels import _checks

ops = rk.ops


def tensor(*shape: int, dtype=torch.float32, device="cpu") -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype, device=device)


def good_convolution() -> dict:
    return {"x": tensor(2, 6, 8, 8), "weight": tensor(4, 6, 3, 3)}


# Operator -> arguments that are right; the tables below replace one at a time.
GOOD = {
    "conv_bn_act": lambda: good_convolution() | {"padding": 1},
    "conv_bn_relu_maxpool": lambda: good_convolution() | {"padding": 1},
    "bn_act": lambda: {"x": tensor(2, 4, 8, 8)},
    "max_pool": lambda: {"x": tensor(2, 4, 8, 8), "kernel": 3, "stride": 2, "padding": 1},
    "global_avg_pool": lambda: {"x": tensor(2, 4, 8, 8)},
    "linear": lambda: {"x": tensor(2, 6), "weight": tensor(4, 6)},
}
CONVOLUTIONS = ("conv_bn_act", "conv_bn_relu_maxpool")
AFFINES = (*CONVOLUTIONS, "bn_act")
FOUR = (*AFFINES, "max_pool", "global_avg_pool")

# (operators, argument, value, exception, a pattern of the message besides "operator: argument")
BAD: list[tuple[tuple[str, ...], str, object, type[Exception], str]] = []


def bad(operators, argument, exception, pattern, *values):
    BAD.extend((operators, argument, value, exception, pattern) for value in values)


NOT_TENSORS = (None, 1, 2.5, "x", [1.0, 2.0], object())
WRONG_DTYPES = (torch.int64, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn)

bad(tuple(GOOD), "x", TypeError, "must be a tensor .*got", *NOT_TENSORS)
for wrong_dtype in WRONG_DTYPES:
    bad(FOUR, "x", TypeError, "must be bfloat16, float16, float32", tensor(2, 6, 8, 8).to(wrong_dtype))
    bad(("linear",), "x", TypeError, "must be bfloat16", tensor(2, 6).to(wrong_dtype))
    bad(CONVOLUTIONS, "weight", TypeError, "must be bfloat16", tensor(4, 6, 3, 3).to(wrong_dtype))
    bad(("conv_bn_act",), "residual", TypeError, "must be bfloat16", tensor(2, 4, 8, 8).to(wrong_dtype))
bad(FOUR, "x", TypeError, "dense", tensor(2, 6, 8, 8).to_sparse())
bad(FOUR, "x", ValueError, r"4 dimensions.*unsqueeze\(0\)", tensor(6, 8, 8))
bad(FOUR, "x", ValueError, "4 dimensions", tensor(6), tensor(), tensor(1, 2, 6, 8, 8))
bad(FOUR, "x", ValueError, "at least one element", tensor(2, 0, 8, 8), tensor(2, 6, 0, 8), tensor(2, 6, 8, 0))

bad(CONVOLUTIONS, "weight", TypeError, "must be a tensor", *NOT_TENSORS)
bad(
    CONVOLUTIONS,
    "weight",
    TypeError,
    "x's dtype torch.float32.*autocast",
    tensor(4, 6, 3, 3, dtype=torch.bfloat16),
)
bad(CONVOLUTIONS, "weight", TypeError, "x's dtype", tensor(4, 6, 3, 3, dtype=torch.float64))
bad(CONVOLUTIONS, "weight", TypeError, "dense", tensor(4, 6, 3, 3).to_sparse())
bad(CONVOLUTIONS, "weight", ValueError, "x's device cpu", tensor(4, 6, 3, 3, device="meta"))
bad(CONVOLUTIONS, "weight", ValueError, "4 dimensions", tensor(4, 6), tensor(6, 3, 3), tensor(4, 6, 3, 3, 3))
bad(
    CONVOLUTIONS,
    "weight",
    ValueError,
    "6 channels along dimension 1",
    tensor(4, 5, 3, 3),
    tensor(4, 12, 3, 3),
)
bad(CONVOLUTIONS, "weight", ValueError, r"2 groups.*torch\.nn\.Conv2d", tensor(4, 3, 3, 3))
bad(CONVOLUTIONS, "weight", ValueError, "at least one filter", tensor(0, 6, 3, 3))
bad(CONVOLUTIONS, "weight", ValueError, "at least one element", tensor(4, 6, 0, 3), tensor(4, 6, 3, 0))
bad(CONVOLUTIONS, "weight", ValueError, "spans 11 along height.*only 10", tensor(4, 6, 11, 3))
bad(CONVOLUTIONS, "weight", ValueError, "spans 12 along width.*only 10", tensor(4, 6, 3, 12))
bad(CONVOLUTIONS, "weight", ValueError, "channels along dimension 1", tensor(4, 0, 3, 3))

for vector in ("scale", "shift"):
    bad(AFFINES, vector, TypeError, r"must be a tensor \[4\] or None", 1.0, [1.0] * 4, "x")
    bad(AFFINES, vector, ValueError, r"shape \(4,\)", tensor(5), tensor(1), tensor(4, 1), tensor(), tensor(0))
    bad(AFFINES, vector, ValueError, "x's device", tensor(4, device="meta"))
    bad(
        AFFINES, vector, TypeError, "floating", tensor(4, dtype=torch.int32), tensor(4, dtype=torch.complex64)
    )
    bad(AFFINES, vector, TypeError, "dense", tensor(4).to_sparse())
bad(AFFINES, "var", ValueError, "mean must be given with var|var must", tensor(4))
bad(AFFINES, "mean", ValueError, "var must be given with mean", tensor(4))

bad(("conv_bn_act", "bn_act"), "residual", TypeError, "must be a tensor", 1.0, [0.0], "x")
bad(("conv_bn_act", "bn_act"), "residual", TypeError, "x's dtype", tensor(2, 4, 8, 8, dtype=torch.float16))
bad(("conv_bn_act", "bn_act"), "residual", ValueError, "x's device", tensor(2, 4, 8, 8, device="meta"))
bad(
    ("conv_bn_act", "bn_act"), "residual", ValueError, r"output's shape \(2, 4, 8, 8\)",
    tensor(1, 4, 8, 8), tensor(2, 1, 8, 8), tensor(2, 4, 1, 1), tensor(2, 4, 8, 7), tensor(2, 4, 16, 4),
)  # fmt: skip
bad(("conv_bn_act", "bn_act"), "residual", ValueError, "4 dimensions", tensor(4, 8, 8), tensor(4))

for number in ("stride", "dilation", "padding"):
    operators = CONVOLUTIONS if number == "dilation" else (*CONVOLUTIONS, "max_pool")
    bad(
        operators,
        number,
        TypeError,
        "int or a pair",
        1.0,
        "1",
        "same",
        True,
        (1.0, 1),
        (True, 1),
        {1: 1},
        object(),
    )
    bad(operators, number, TypeError, "int or a pair", torch.tensor(1), (torch.tensor(1), 1))
    bad(
        operators,
        number,
        ValueError,
        "int or a pair",
        (1, 1, 1),
        (1,),
        (),
        [1, 1, 1, 1],
        -1,
        (1, -1),
        2**31,
        (2**63, 1),
    )
bad(CONVOLUTIONS, "stride", TypeError, "int or a pair", None)
bad((*CONVOLUTIONS, "max_pool"), "padding", TypeError, "int or a pair", None)
bad((*CONVOLUTIONS, "max_pool"), "stride", ValueError, "from 1", 0, (0, 1), (1, 0))
bad(CONVOLUTIONS, "dilation", ValueError, "from 1", 0, (0, 1), (1, 0))
bad(("max_pool",), "kernel", TypeError, "int or a pair", None, 2.0, "3", True)
bad(("max_pool",), "kernel", ValueError, "int or a pair", 0, -1, (3, 0), (3,), (3, 3, 3), 2**31)
bad(("max_pool",), "kernel", ValueError, "spans 11 along height", (11, 3))
bad(("max_pool",), "padding", ValueError, "at most half of the window along height", 2, (2, 1))
bad(("max_pool",), "padding", ValueError, "at most half of the window along width", (1, 2))

bad(AFFINES, "eps", TypeError, "must be a number", None, "1e-5", True, tensor(1))
bad(AFFINES, "eps", ValueError, "finite and at least 0", -1e-5, float("nan"), float("inf"))
bad(("conv_bn_act", "bn_act"), "relu", TypeError, "True or False", None, 1, 0, "relu", tensor(1))

bad(("linear",), "x", ValueError, "2 dimensions", tensor(6), tensor(2, 6, 1), tensor(2, 6, 1, 1))
bad(("linear",), "weight", TypeError, "must be a tensor", *NOT_TENSORS)
bad(("linear",), "weight", TypeError, "x's dtype", tensor(4, 6, dtype=torch.float16))
bad(("linear",), "weight", ValueError, "2 dimensions", tensor(6), tensor(4, 6, 1, 1))
bad(("linear",), "weight", ValueError, r"\[K, 6\]", tensor(4, 5), tensor(6, 4), tensor(0, 6))
bad(("linear",), "weight", ValueError, "x's device", tensor(4, 6, device="meta"))
bad(("linear",), "bias", TypeError, r"must be a tensor \[4\] or None", 1.0, [0.0] * 4)
bad(("linear",), "bias", ValueError, r"shape \(4,\)", tensor(5), tensor(1), tensor(1, 4))
bad(("linear",), "bias", TypeError, "floating", tensor(4, dtype=torch.int64))

CASES = [(op, *case[1:]) for case in BAD for op in case[0]]


def name(case) -> str:
    op, argument, value, *_ = case
    return re.sub(r" at 0x\w+|\s+", " ", f"{op}-{argument}-{_checks.describe(value)}")[:90]


@pytest.mark.parametrize("case", CASES, ids=name)
def test_bad_argument(case, machine):
    op, argument, value, exception, pattern = case
    arguments = GOOD[op]()
    if op in AFFINES and argument in ("scale", "shift"):
        arguments |= {"mean": tensor(4), "var": tensor(4)}
    with pytest.raises(exception, match=f"^{op}: .*{pattern}") as caught:
        getattr(ops, op)(**arguments | {argument: value})
    assert argument in str(caught.value)


@pytest.mark.parametrize("op", GOOD)
def test_the_good_arguments_are_good(op, machine):
    getattr(ops, op)(**GOOD[op]())


@pytest.mark.parametrize("op", GOOD)
def test_missing_and_unknown_arguments(op):
    with pytest.raises(TypeError, match="x"):
        getattr(ops, op)()
    with pytest.raises(TypeError, match="groups"):
        getattr(ops, op)(**GOOD[op](), groups=2)


@pytest.mark.parametrize("op", GOOD)
def test_float64_names_its_backend(op, simulator):
    arguments = {name: v.double() if isinstance(v, torch.Tensor) else v for name, v in GOOD[op]().items()}
    with pytest.raises(TypeError, match=r"x is float64.*rk\.backend\('aten'\)"):
        getattr(ops, op)(**arguments)
    with rk.backend("aten"):
        assert getattr(ops, op)(**arguments).dtype == torch.float64


@pytest.mark.parametrize(
    "x,weight,geometry,text",
    (
        ((2**15, 1, 257, 257), (1, 1, 1, 1), {}, "x has .* pixels"),
        ((2**31 - 1023, 1, 1, 1), (1, 1, 1, 1), {}, "2147482625 pixels"),
        ((2**31 - 1024, 1, 1, 1), (1, 1, 1, 1), {"padding": 1}, "output pixels"),
        ((1, 2**12, 512, 512), (1, 2**12, 1, 1), {}, "padded image"),
        ((1, 1, 4, 4), (1, 1, 1, 1), {"padding": 2**15, "stride": 2**14}, "padded image"),
        ((1, 1, 4, 4), (1, 1, 1, 1), {"padding": 2**31 - 1, "stride": 2**31 - 1}, "padded image"),
    ),
)
def test_huge_problems_are_refused_before_anything_is_allocated(x, weight, geometry, text, simulator):
    # Expanded from one element in channels_last order, so that the test needs no memory.
    x, weight = (torch.zeros(1).expand(shape) for shape in (x, weight))
    raw = torch.ops.resnet_kernels.conv_fprop.default
    pair = {key: [value] * 2 for key, value in ({"stride": 1, "padding": 0} | geometry).items()}
    with pytest.raises(ValueError, match=f"{text}.*2\\^31 - 1.*rk.backend\\('aten'\\)"):
        raw(x, weight, *[None] * 4, 0.0, None, pair["stride"], pair["padding"], [1, 1], True, False)


def test_numpy_integers_are_integers():
    import numpy as np

    good = good_convolution()
    y = ops.conv_bn_act(**good, stride=np.int64(2), padding=(np.int32(1), 1))
    assert y.shape == (2, 4, 4, 4)


def test_errors_under_compile_are_the_same(machine):
    compiled = torch.compile(lambda x, w: ops.conv_bn_act(x, w), backend="eager")
    with pytest.raises(Exception, match="conv_bn_act: weight must have x's 6 channels"):
        compiled(tensor(1, 6, 8, 8), tensor(4, 5, 3, 3))
    torch._dynamo.reset()
