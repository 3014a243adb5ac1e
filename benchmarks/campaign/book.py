"""What a campaign has found so far: campaign.json, written after every step, and the table at the end."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Entry:
    """One stage; `found` is for people, `details` for programs.

    status: "passed", "failed", "incomplete", "no GPU" for a rehearsal, or "" before its end.
    """

    status: str = ""
    seconds: float = 0.0
    found: str = ""
    details: dict = field(default_factory=dict)


class Book:
    """campaign.json in a directory; `entries` by stage."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "campaign.json"
        self.entries: dict[str, Entry] = {}
        if self.path.is_file():
            kept = json.loads(self.path.read_text())
            self.entries = {name: Entry(**entry) for name, entry in kept.items()}

    def entry(self, stage: str) -> Entry:
        return self.entries.setdefault(stage, Entry())

    def save(self) -> None:
        """Write the file, whole or not at all."""
        text = json.dumps({name: asdict(entry) for name, entry in self.entries.items()}, indent=1)
        temporary = self.path.with_suffix(".part")
        temporary.write_text(text + "\n")
        temporary.replace(self.path)

    def table(self) -> str:
        """The stages, one a line."""
        lines = [f"{'stage':<14}{'status':<12}{'seconds':>8}  found"]
        lines += [
            f"{name:<14}{entry.status or 'not begun':<12}{entry.seconds:>8.0f}  {entry.found}"
            for name, entry in self.entries.items()
        ]
        return "\n".join(lines)


def take_over(old: Path, new: Path) -> None:
    """Copy the files of an earlier campaign, a directory or an archive of it, that `new` lacks."""
    if old.is_dir():
        for path in sorted(old.iterdir()):
            if path.is_file() and not (new / path.name).exists():
                shutil.copy2(path, new / path.name)
        return
    with tarfile.open(old) as archive:
        for member in archive.getmembers():
            if member.isfile() and "/" not in member.name and not (new / member.name).exists():
                archive.extract(member, new, filter="data")


def pack(directory: Path, archive: Path) -> None:
    """Write the campaign as one compressed file, whole or not at all."""
    temporary = archive.with_name(f".{archive.name}.part")
    with tarfile.open(temporary, "w:gz") as packed:
        for path in sorted(directory.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                packed.add(path, path.name)
    temporary.replace(archive)
