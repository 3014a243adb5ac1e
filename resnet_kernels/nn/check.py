"""Checks of constructor arguments: the exception names the argument, what it got and what it wants."""

from __future__ import annotations


def positive(who: str, name: str, value: object, least: int = 1) -> int:
    """`value` as an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{who}: {name} must be an int, got {value!r} ({type(value).__name__})")
    if value < least:
        raise ValueError(f"{who}: {name} must be at least {least}, got {value}")
    return value


def pair_of(who: str, name: str, value: object, least: int = 1) -> tuple[int, int]:
    """`value`, an int or a pair of ints (h, w) of at least `least`, as a pair."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2:
        raise ValueError(
            f"{who}: {name} must be an int or a pair (h, w), got {len(values)} values: {value!r}"
        )
    return positive(who, name, values[0], least), positive(who, name, values[1], least)


def one_of(who: str, name: str, value: object, choices: tuple[str, ...]) -> str:
    """`value`, which must be one of `choices`."""
    if value not in choices:
        raise ValueError(f"{who}: {name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return str(value)
