"""The files the rules read, and how a finding is written."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Finding(NamedTuple):
    """One breach of one rule."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


def line_of(text: str, position: int) -> int:
    """The line, from 1, of a position in a text."""
    return text.count("\n", 0, position) + 1


def files(*suffixes: str, under: str = "") -> Iterator[tuple[str, str]]:
    """(path from the root, text) of the files git knows or would add, with these suffixes (any if none)."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", under or "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for path in sorted(set(listed)):
        file = ROOT / path
        if file.is_file() and (not suffixes or file.suffix in suffixes):
            try:
                yield path, file.read_text()
            except UnicodeDecodeError:
                continue  # a picture or another binary file


def report(findings: list[Finding]) -> str:
    """The findings, one a line."""
    return "\n".join(map(str, findings))
