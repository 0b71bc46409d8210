"""What holds for every test."""

from hypothesis import settings

# The default deadline judges how fast an example ran, which on a busy machine says nothing about the code.
settings.register_profile("r2tuning", deadline=None)
settings.load_profile("r2tuning")
