"""Feeds as an app declares them in its `feeds.py`, and how they are found."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Final, Literal

from django.apps import apps
from django.conf import settings
from django.utils.module_loading import module_has_submodule

from ingestion.cleaning import RecordRule, Rule
from ingestion.errors import ConfigurationError
from ingestion.feeds.targets import Target
from ingestion.incremental import Incremental
from ingestion.parts import Parts
from ingestion.sources import Source

MEBIBYTE: Final = 1024 * 1024
DRIFT_POLICIES: Final = ("ignore", "warn", "fail")


@dataclass(frozen=True, kw_only=True)
class RejectLimit:
    """More rejects than both, or one whole page of them, mean that the feed is wrong, not its data."""

    records: int = 100
    share: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Feed:
    """One sync: a source, a mapping of model fields to record paths, a target and a schedule.

    Args:
        name: unique among all feeds; letters, digits, `-` and `_`.
        columns: model field name to a dotted path, or to a rule of `ingestion.cleaning`.
        rules: functions of a decoded record, called in turn before anything else: see `ingestion.cleaning.RecordRule`.
        every: the default schedule; None leaves scheduling to the operator.
        missed: what becomes of slots that no beat was there for: one run for all of them, or none.
        chunk_rows, chunk_bytes: what a run may have received and not committed yet; three fifths of it are committed
            together at most. Bytes are as received.
        drift: what happens when the source's fields change: `"warn"`, `"fail"` or `"ignore"`.
        attempts: how often a part is taken up without progress before the run fails.
        parts: how a run is cut into parts that several workers advance at once; None for one part.
        parts_at_once: of one run, at most.
        group: feeds with the same one never run together; they take turns, the oldest request first.
        skip_unchanged_pages: leave pages unread whose bytes are as when the last successful run loaded them.
        incremental: ask for what has changed since the last complete run; None reads everything each time.
    """

    name: str
    source: Source
    columns: Mapping[str, str | Rule]
    target: Target
    every: timedelta | None = None
    missed: Literal["once", "skip"] = "once"
    chunk_rows: int = 75_000
    chunk_bytes: int = 6 * MEBIBYTE
    reject_limit: RejectLimit = RejectLimit()
    attempts: int = 5
    rules: tuple[RecordRule, ...] = ()
    drift: str = "warn"
    parts: Parts | None = None
    parts_at_once: int = 4
    group: str = ""
    skip_unchanged_pages: bool = False
    incremental: Incremental | None = None


def env_url(name: str, path: str = "") -> Callable[[], str]:
    """Take a base URL from the setting or environment variable `name`, when a run needs it.

    The function returned raises ConfigurationError when the variable is unset.
    """

    def resolve() -> str:
        base = getattr(settings, name, "") or os.environ.get(name, "")
        if not base:
            raise ConfigurationError(f"{name} is not set: put the base URL of the remote into the environment")
        return str(base).rstrip("/") + path

    return resolve


def env_text(name: str) -> Callable[[], str]:
    """Take a value, such as a secret, from the setting or environment variable `name`, when a run needs it.

    Where that is unset, from the file that `name` with `_FILE` names, without the newline at its end.

    The function returned raises ConfigurationError when there is neither.
    """

    def resolve() -> str:
        text = getattr(settings, name, "") or os.environ.get(name, "") or _text_of_file(name)
        if not text:
            raise ConfigurationError(f"{name} is not set: put its value into the environment")
        return str(text)

    return resolve


def _text_of_file(name: str) -> str:
    path = os.environ.get(f"{name}_FILE", "")
    if not path:
        return ""
    try:
        return Path(path).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the file that {name}_FILE names cannot be read ({type(error).__name__})") from None


def declared() -> list[Feed]:
    """Return every feed of the installed apps' `feeds` modules, in the order of INSTALLED_APPS."""
    found: dict[int, Feed] = {}
    for config in apps.get_app_configs():
        if config.module is not None and module_has_submodule(config.module, "feeds"):
            module = import_module(f"{config.name}.feeds")
            found.update({id(value): value for value in vars(module).values() if isinstance(value, Feed)})
    return list(found.values())


def get(name: str) -> Feed:
    """Return the feed of that name.

    Raises:
        ConfigurationError: no installed app declares it.
    """
    for feed in declared():
        if feed.name == name:
            return feed
    known = ", ".join(sorted(feed.name for feed in declared())) or "none"
    raise ConfigurationError(f"no feed is named {name!r}; known feeds: {known}")
