"""What the commands that take settings say of the environment."""

import os

import click

from streamflow.engine.settings import unknown_variables


def warn_of_unknown_variables() -> None:
    """On stderr, a line each: a misspelt variable would do nothing in silence."""
    for warning in unknown_variables(os.environ):
        click.echo(f"warning: {warning}", err=True)
