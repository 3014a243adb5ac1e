"""The application that commands register with, and how it ends.

What a user can put right (a file, a model's name, a shape) is one line on stderr and exit code 2;
a failed check is exit code 1.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__

PROGRAM = "resnet-kernels"
BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


class _OneLineErrors(TyperGroup):
    """Prints what a user can put right as one line, instead of a usage text in a box or a traceback."""

    def main(self, *args: Any, **options: Any) -> Any:
        from ..errors import UserError

        options["standalone_mode"] = False
        try:
            code = super().main(*args, **options)
        except UserError as error:
            message = str(error)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except Exception as error:
            if not hasattr(error, "format_message"):  # typer's own: an unknown option, a missing argument
                if type(error).__name__ == "Abort":
                    sys.exit(INTERRUPTED)
                raise
            message = " ".join(error.format_message().split())
        else:
            sys.exit(code if isinstance(code, int) else 0)
        print(f"{PROGRAM}: {message}", file=sys.stderr)
        sys.exit(BAD_INPUT)


app = typer.Typer(
    cls=_OneLineErrors,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fused CUDA kernels for residual networks, and the instruments that prove them.",
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit


def main() -> None:
    """Entry point."""
    app(prog_name=PROGRAM)
