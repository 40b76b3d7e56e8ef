"""The option ``--trust`` of the commands that start what a run folder names."""

import click

TRUST = click.option(
    "--trust",
    "is_trusted",
    is_flag=True,
    help="Start what the run folder names, though it was not created here; needed only once.",
)
