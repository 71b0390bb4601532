"""`python -m ballast`, the same as the command `ballast`."""

from ballast.cli import app

app()
