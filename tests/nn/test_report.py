"""FuseReport: what it holds and how it prints."""

import io

import pytest

import resnet_kernels as rk
from resnet_kernels.nn import Row

from .common import foreign


def test_rows_are_in_the_networks_order():
    names = [row.name for row in rk.fuse_report(rk.fuse(foreign("torchvision resnet18"))).rows]
    assert names[0] == "conv1"
    assert names[-2:] == ["avgpool", "fc"]
    stages = [name[:6] for name in names if name.startswith("layer")]
    assert stages == sorted(stages)


def test_text():
    text = str(rk.fuse_report(rk.fuse(foreign("torchvision resnext50_32x4d").eval())))
    assert "conv1 bn1 relu maxpool" in text
    assert "groups=32" in text
    assert "37 of 53 convolutions fused in evaluation" in text
    assert "channels_last" in text.splitlines()[-1]


def test_rich():
    console = pytest.importorskip("rich.console").Console(width=120, record=True, file=io.StringIO())
    console.print(rk.fuse_report(rk.fuse(foreign("torchvision resnet18").eval())))
    text = console.export_text()
    assert "layer4.1.conv2 bn2 + shortcut relu" in text and "20 of 20 convolutions" in text


def test_a_row_has_an_operator_or_a_reason():
    with pytest.raises(ValueError, match="either an operator or a reason"):
        Row("conv", ("conv",), None, None)
