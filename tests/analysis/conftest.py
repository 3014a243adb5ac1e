"""Real runs of the trainer, short ones, shared by the tests of a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from resnet_kernels import train


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Directories of a plain and a residual network of 20 layers, 4 iterations on digits each."""
    root = tmp_path_factory.mktemp("runs")
    found = []
    for model in ("cifar_plain20", "cifar_resnet20"):
        recipe = train.Recipe.load("digits").replaced(
            model=model, iterations=4, steps=[2, 3], log_every=1, test_every=2, batch=32
        )
        found.append(train.run(recipe, root / model, tensorboard=False).directory)
    return found
