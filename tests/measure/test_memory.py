"""The peak of tensors' memory, counted on a CPU exactly."""

import torch

from resnet_kernels.measure.memory import peak_bytes

from .common import CPU

MIB = 1 << 20


def test_peak_counts_what_lives_at_once():
    x = torch.randn(MIB // 4)

    def call():
        y = x.sin()
        z = y.cos()
        del y
        return z.exp()  # at most two of them at any time

    call()
    assert 2 * MIB <= peak_bytes(call, CPU) < 2.1 * MIB


def test_what_is_freed_does_not_add_up():
    x = torch.randn(MIB // 4)

    def call():
        for _ in range(10):
            y = x.sin()
            del y

    assert MIB <= peak_bytes(call, CPU) < 1.1 * MIB


def test_backward_counts():
    x = torch.randn(MIB // 4, requires_grad=True)
    assert peak_bytes(lambda: x.sin().exp().sum().backward(), CPU) >= 3 * MIB
