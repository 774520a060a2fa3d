"""Libraries that only some sources need: imported when one is used, and asked for by name when they are missing."""

from importlib import import_module
from typing import Any

from ingestion.errors import ConfigurationError


def needed(module: str, extra: str) -> Any:
    """Import a library that is among the project's optional dependencies.

    Raises:
        ConfigurationError: it is not installed; the message names the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f"{module.partition('.')[0]} is not installed: it is in the extra {extra!r} of the project's "
            f"optional dependencies, see docs/sources.md"
        ) from error
