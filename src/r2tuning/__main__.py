"""Lets ``python -m r2tuning`` do what ``r2tuning`` does."""

from r2tuning.cli.main import run

run()
