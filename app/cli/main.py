"""The command line ``posemamba``: registers the commands, which import torch and the like when called."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from app.batch.process_clip import USER_ERRORS
from app.cli import bench, convert, doctor, evaluate, models, run, train, ui
from app.cli.flags import with_options
from app.console import print_error
from app.options import APPLICABLE, PRESETS, Options

INTERRUPTED = 130  # what typer makes of Ctrl-C

cli = typer.Typer(
    name="posemamba",
    help="Any video of people to 3D human motion.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.command()(with_options(run.run, Options, presets=PRESETS))
cli.command()(with_options(convert.convert, Options, APPLICABLE, presets=PRESETS))
cli.command()(with_options(ui.ui, ui.UiOptions))
cli.command()(doctor.doctor)
cli.command()(models.models)
cli.command()(models.fetch)
cli.command()(with_options(train.train, train.TrainingOptions))
cli.command()(with_options(train.ablate, train.AblationOptions))
cli.add_typer(evaluate.commands, name="evaluate")
cli.add_typer(bench.commands, name="bench")


def main() -> None:
    """Run the command line; expected failures become one sentence and exit code 1."""
    try:
        cli()
    except USER_ERRORS as error:
        logging.getLogger(__name__).debug("failed", exc_info=True)
        print_error(str(error))
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print_error("stopped; finished results are kept")
        raise


@cli.callback()
def configure(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show decisions and tracebacks.")] = False,
) -> None:
    """Any video of people to 3D human motion."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    for name in ("matplotlib", "PIL", "jax", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
