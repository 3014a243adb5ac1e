"""The states of the generators of random numbers that a network may draw from, as plain values."""

from __future__ import annotations

import random
from typing import Any

import torch


def seed(number: int) -> None:
    """Begin all of them anew."""
    torch.manual_seed(number)
    random.seed(number)


def capture() -> dict[str, Any]:
    """The states of torch's generators, CPU and every GPU, and of Python's."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
    }


def restore(state: dict[str, Any]) -> None:
    """Go on drawing where `capture()` stood; GPUs are left alone if their number has changed."""
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    random.setstate(state["python"])
