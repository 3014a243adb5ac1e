"""Tests of the operators, on PyTorch's composition and on the simulator."""
