"""`manage.py credentials`: those that are stored; set one, try a feed's, encrypt all with the newest key."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ingestion import credentials, feeds
from ingestion.errors import IngestionError
from ingestion.models import Credential


class Command(BaseCommand):
    help = (
        "List the stored credentials; set one to the refresh token on standard input; test a feed's by reading its "
        "first page; rotate: encrypt all with the first of CREDENTIAL_KEYS."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", nargs="?", choices=("list", "set", "test", "rotate"), default="list")
        parser.add_argument("name", nargs="?", help="of the credential to set, or of the feed to test")

    def handle(self, *args: Any, **options: Any) -> None:
        action, name = options["action"], options["name"]
        if (name is None) == (action in ("set", "test")):
            raise CommandError(f"credentials {action} takes {'a' if name is None else 'no'} name")
        try:
            self.stdout.write(_ACTIONS[action](name or ""))
        except IngestionError as error:
            raise CommandError(str(error)) from error


def _list(_: str) -> str:
    return "\n".join(map(_told, Credential.objects.all()))


def _told(row: Credential) -> str:
    told = [f"changed {row.changed_at:%Y-%m-%d %H:%M:%S}"]
    if row.asked_at:
        told.append(f"sent {row.asked_at:%Y-%m-%d %H:%M:%S}, and what came for it is not stored so far")
    if row.refused_at:
        told.append(f"refused {row.refused_at:%Y-%m-%d %H:%M:%S}: log in again, and set it")
    return f"{row.name}: {'; '.join(told)}"


def _set(name: str) -> str:
    # Not an argument: those are seen by everybody on the machine, and kept by the shell.
    token = sys.stdin.readline().strip()
    if not token:
        raise CommandError("no token on standard input")
    credentials.store(name, token)
    return f"{name} is set"


def _test(name: str) -> str:
    feed = feeds.get(name)
    page = next(iter(feed.source.pages(None)), None)
    count = 0 if page is None else len(page.records)
    return f"{feed.name}: the remote has answered, {count} records on the first page"


def _rotate(_: str) -> str:
    return f"{credentials.rotate()} credentials are encrypted with the first key"


_ACTIONS: Final[Mapping[str, Callable[[str], str]]] = {"list": _list, "set": _set, "test": _test, "rotate": _rotate}
