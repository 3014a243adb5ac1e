"""How float32 products are computed: strictly, or with operands rounded to TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_CONVOLUTIONS: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
_SWITCHES = (_CONVOLUTIONS, torch.backends.cuda.matmul)


@contextmanager
def float32_products(*, tf32: bool) -> Iterator[None]:
    """Inside the block float32 convolutions and matrix products use TF32, or do not (by default some do)."""
    before = [switch.fp32_precision for switch in _SWITCHES]
    try:
        for switch in _SWITCHES:
            switch.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        for switch, value in zip(_SWITCHES, before, strict=True):
            switch.fp32_precision = value
