"""Makes `support` importable from every test, and has Hypothesis assert no timing."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
