"""Strict float32: the simulator obeys PyTorch's switch for TF32 as a GPU does."""

import pytest
import torch


@pytest.fixture(autouse=True)
def strict_float32(monkeypatch):
    """float32 convolutions without TF32, through the old switch, as the other tests set it."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
