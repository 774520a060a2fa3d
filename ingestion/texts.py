"""Texts that differ between environments: given as they are, or by functions when a run needs them. Pure, no I/O."""

from collections.abc import Callable

# What is no secret, but another one in each environment.
Text = str | Callable[[], str]


def text_of(given: Text) -> str:
    """Return a text that is given as it is, or by a function."""
    return given if isinstance(given, str) else given()
