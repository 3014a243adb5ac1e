"""Where the CUDA toolkit's programs are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def find(name: str) -> str | None:
    """On PATH, or in the CUDA toolkit."""
    places = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    inside = [str(Path(place, "bin")) for place in places if place]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(inside))


def missing(name: str) -> str:
    """What a stage says of a program that `find` does not find."""
    return f"failed: {name} is not on PATH and not in CUDA_HOME"
