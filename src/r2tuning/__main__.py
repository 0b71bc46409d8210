"""Lets ``python -m r2tuning`` do what ``r2tuning`` does."""

from r2tuning.cli import run

run()
