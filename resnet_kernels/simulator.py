"""The simulator's controls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

checked_enabled = False


@contextmanager
def checked() -> Iterator[None]:
    """Run simulated operators in the checked build inside the block."""
    global checked_enabled
    previous, checked_enabled = checked_enabled, True
    try:
        yield
    finally:
        checked_enabled = previous
