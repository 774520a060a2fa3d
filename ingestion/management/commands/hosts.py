"""`manage.py hosts`: the hosts that have failed, and their circuit breakers; close one by hand."""

import getpass
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ingestion import breakers
from ingestion.errors import WrongState
from ingestion.models import Host


class Command(BaseCommand):
    help = "List the hosts that have failed; close: let the feeds of a host go on that wait for it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", nargs="?", choices=("list", "close"), default="list")
        parser.add_argument("name", nargs="?", help="of the host whose breaker is to be closed")
        parser.add_argument("--json", action="store_true", help="one JSON object a line")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"]
        if (name is None) == (options["action"] == "close"):
            raise CommandError(f"hosts {options['action']} takes {'a' if name is None else 'no'} name")
        if name is not None:
            try:
                breakers.close(name, by=getpass.getuser())
            except WrongState as error:
                raise CommandError(str(error)) from error
        found = breakers.listed()
        for host in found if name is None else found.filter(name=name):
            self.stdout.write(json.dumps(_values(host)) if options["json"] else _line(host))


def _values(host: Host) -> dict[str, Any]:
    moments = {name: getattr(host, name) for name in ("opened_at", "probe_at", "failed_at", "closed_at")}
    return {
        "host": host.name,
        "breaker": breakers.state_of(host),
        "failures": host.failures,
        "reason": host.reason,
        **{name: at.isoformat() if at else None for name, at in moments.items()},
        "closed_by": host.closed_by,
        "waiting": host.waiting,  # type: ignore[attr-defined]  # annotated
    }


def _line(host: Host) -> str:
    if host.opened_at is None:
        since = f"; open until {host.closed_at:%Y-%m-%d %H:%M:%S}" if host.closed_at else ""
        by = f", closed by {host.closed_by}" if host.closed_by else ""
        return f"{host.name}: closed, {host.failures} failures in a row{since}{by}; the last one: {host.reason}"
    waiting: int = host.waiting  # type: ignore[attr-defined]  # annotated
    return (
        f"{host.name}: {breakers.state_of(host)} since {host.opened_at:%Y-%m-%d %H:%M:%S}, next probe "
        f"{host.probe_at:%Y-%m-%d %H:%M:%S}, {waiting} parts wait: {host.reason}"
    )
