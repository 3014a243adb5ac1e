"""Running the command line in this process."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from resnet_kernels import cli


@pytest.fixture
def run(monkeypatch):
    """run("flops", "resnet50") -> typer's result: exit_code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: object):
        return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])

    return call
