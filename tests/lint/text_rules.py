"""Rules for every file of the tree: nothing unfinished, no path of somebody's machine, nothing large."""

import re
from collections.abc import Iterator

from .tree import Finding, line_of

# Written with a gap, so that this file does not break its own rule.
WORDS = [
    word.replace("_", "")
    for word in ("TO_DO", "FIX_ME", "XX_X", "HA_CK", "not implemented_ yet", "raise NotImplemented_Error")
]
UNFINISHED = re.compile(rf"(?<![A-Za-z])({'|'.join(WORDS)})(?![A-Za-z])")
MACHINE_PATH = re.compile(r"(?:(?<![\w.$}>~-])|(?<=-[IL]))/(root|home/\w+|Users/\w+|work|mnt|scratch)/")
LONGEST = 1_000_000  # bytes of text in one file
MEASURED = "benchmarks/results/"  # records are as large as what was measured


def unfinished(path: str, text: str) -> Iterator[Finding]:
    """What is not done is not in the tree: no word that says so."""
    for match in UNFINISHED.finditer(text):
        yield Finding(path, line_of(text, match.start()), f"{match.group()}: finish it or leave it out")


def machine_path(path: str, text: str) -> Iterator[Finding]:
    """No path that exists on one machine only."""
    for match in MACHINE_PATH.finditer(text):
        yield Finding(path, line_of(text, match.start()), f"{match.group()}: a path of one machine")


def size(path: str, text: str) -> Iterator[Finding]:
    """No file so large that it belongs elsewhere."""
    if len(text) > LONGEST and not path.startswith(MEASURED):
        yield Finding(path, 1, f"{len(text)} characters, at most {LONGEST}")


RULES = (unfinished, machine_path, size)
