"""The application: which commands there are, and what their errors become.

Each module beside this one holds the commands of one kind and imports nothing heavy at its top, so that ``pdediff
--help`` answers at once. A new command is a function with a docstring and one line in `COMMANDS`.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from pdediff import __version__
from pdediff.cli import benchmark, cases, compare, generate, repeat, train
from pdediff.cli import run as run_command
from pdediff.solvers.errors import ConvergenceError, InputError, Interrupted

COMMANDS: dict[str, Callable[..., Any]] = {
    "run": run_command.run,
    "compare": compare.compare,
    "repeat": repeat.repeat,
    "train": train.train,
    "generate": generate.generate,
    "validate": cases.validate,
    "schema": cases.schema,
    "benchmark": benchmark.benchmark,
}

# BadParameter's base is click's UsageError, whether typer brings its own click or uses the installed one.
USAGE_ERRORS: type[Exception] = typer.BadParameter.__mro__[1]

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pdediff {__version__}")
        raise typer.Exit


def build() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        help="Recover the coefficient and the solution of a PDE from sparse data, with honest uncertainty.",
        rich_markup_mode=None,  # plain help: rendering it with rich would double the time to the first letter
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
        ] = False,
    ) -> None:
        pass

    for name, command in COMMANDS.items():
        app.command(name)(command)
    return app


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; its exit code. Errors that a user can act on are one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = build()(given or ["--help"], prog_name="pdediff", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except InputError as error:
        return _fail(str(error), WRONG_INPUT)
    except USAGE_ERRORS as error:
        return _fail(f"pdediff: {_usage(error)}; see pdediff --help", WRONG_INPUT)
    except Interrupted as error:
        return _fail(f"pdediff: {error}", INTERRUPTED)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("pdediff: interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as in `pdediff schema | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ConvergenceError as error:
        return _fail(f"pdediff: {error}", FAILED)
    except OSError as error:
        place = f"{error.filename}: " if error.filename is not None else ""
        return _fail(f"pdediff: {place}{error.strerror or error}", FAILED)


def _usage(error: Exception) -> str:
    """click's words for a usage error, without the full stop."""
    message: str = error.format_message() if hasattr(error, "format_message") else str(error)
    return message.strip().rstrip(".")


def _fail(message: str, code: int) -> int:
    print(" ".join(message.split()), file=sys.stderr)
    return code
