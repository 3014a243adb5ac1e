"""resnet_kernels/ keeps the direction of its imports, and the rule fires on what breaks it."""

import pytest

from .python_rules import import_direction
from .tree import files, report

SOURCES = list(files(".py", under="resnet_kernels"))

BAD = [
    ("resnet_kernels/reference/layers.py", "from resnet_kernels import ops"),
    ("resnet_kernels/reference/layers.py", "from ..flops import count"),
    ("resnet_kernels/reference/layers.py", "import torch"),
    ("resnet_kernels/reference/layers.py", "def f():\n    from torch.nn import functional"),
    ("resnet_kernels/flops.py", "from . import nn"),
    ("resnet_kernels/flops.py", "from .reference import resnet"),
    ("resnet_kernels/nn/layers.py", "from resnet_kernels.models import resnet50"),
    ("resnet_kernels/nn/layers.py", "from ..models.resnet import ResNet"),
    ("resnet_kernels/nn/layers.py", "import resnet_kernels as rk"),
    ("resnet_kernels/nn/layers.py", "from resnet_kernels import fuse"),
    ("resnet_kernels/nn/layers.py", "from .. import flops"),
    ("resnet_kernels/ops.py", "from . import nn"),
    ("resnet_kernels/ops.py", "def f():\n    from .models import resnet50"),
    ("resnet_kernels/_register.py", "from . import ops"),
    ("resnet_kernels/backend.py", "from ._register import router"),
    ("resnet_kernels/_aten.py", "from . import backend"),
    ("resnet_kernels/models/resnet.py", "from ..cli import main"),
    ("resnet_kernels/models/resnet.py", "from ..demo.report import write"),
    ("resnet_kernels/elsewhere.py", "x = 1"),
]
GOOD = [
    ("resnet_kernels/__init__.py", "from . import nn, ops, flops"),
    (
        "resnet_kernels/cli/proof.py",
        "import resnet_kernels as rk\nfrom .. import flops, reference\nfrom ..demo import run",
    ),
    (
        "resnet_kernels/demo/run.py",
        "from .report import write\nfrom .. import models\nfrom ..reference import resnet",
    ),
    (
        "resnet_kernels/models/resnet.py",
        "from resnet_kernels.nn import chain\nfrom .weights import load_weights",
    ),
    ("resnet_kernels/reference/network.py", "import numpy\nfrom .layers import conv2d"),
    ("resnet_kernels/flops.py", "import torch"),
    ("resnet_kernels/ops.py", "from . import _register, _aten, backend"),
]


def test_sources():
    assert len(SOURCES) > 10
    findings = [finding for path, text in SOURCES for finding in import_direction(path, text)]
    assert not findings, report(findings)


@pytest.mark.parametrize(("path", "text"), BAD)
def test_a_breach_is_found(path, text):
    assert list(import_direction(path, text))


@pytest.mark.parametrize(("path", "text"), GOOD)
def test_no_false_alarm(path, text):
    assert not list(import_direction(path, text))
