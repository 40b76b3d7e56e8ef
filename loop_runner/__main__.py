"""``python -m loop_runner``."""

from loop_runner.cli import main

main()
