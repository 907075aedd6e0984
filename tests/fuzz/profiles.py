"""Two Hypothesis profiles: a short one for every run of the tests, and `fuzz`, which `make fuzz` chooses."""

from hypothesis import HealthCheck, settings

SHORT, FUZZ = "short", "fuzz"
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.register_profile(SHORT, unhurried, derandomize=True)  # `make check` decides about a change, not about luck
settings.register_profile(FUZZ, unhurried, print_blob=True)


def examples(short: int, fuzz: int) -> int:
    """The number of examples in the profile that was chosen."""
    return fuzz if settings.get_current_profile_name() == FUZZ else short


def fuzzed(short: int, fuzz: int) -> settings:
    """Settings of the profile that was chosen, with its number of examples."""
    name = FUZZ if settings.get_current_profile_name() == FUZZ else SHORT
    return settings(settings.get_profile(name), max_examples=examples(short, fuzz))
