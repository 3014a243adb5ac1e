"""Errors that the person at the keyboard can put right."""

from __future__ import annotations


class UserError(Exception):
    """A bad file, model, shape or option; its text is one line: what was wrong and what is wanted."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())
