"""`manage.py watermark FEED`: how far an incremental feed has come, and who moved that; or move it."""

import getpass
import json
import re
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from ingestion import feeds, watermarks
from ingestion.errors import IngestionError
from ingestion.models import WatermarkMove

SHOWN: Final = 10
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Command(BaseCommand):
    help = "Show how far an incremental feed has come and who moved its watermark; or move it, for a reason."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("feed", nargs="?", help="all incremental feeds without it")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--set", metavar="VALUE", help="a time (UTC where it names no zone), or a number")
        what.add_argument("--rewind", type=length, metavar="LENGTH", help="90s, 15m, 2h, 3d, 1w, or a number")
        what.add_argument("--clear", action="store_true", help="let the next run start over")
        parser.add_argument("--reason", default="", help="why it is moved; it is kept")
        parser.add_argument("--json", action="store_true", help="print one JSON object a line")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["feed"]
        moves = options["set"] is not None or options["rewind"] is not None or options["clear"]
        if moves and name is None:
            raise CommandError("name the feed whose watermark is moved")
        names = [name] if name else sorted(feed.name for feed in feeds.declared() if feed.incremental)
        try:
            if moves:
                _move(name, options)
            shown = list(map(_status, names))
        except IngestionError as error:
            raise CommandError(str(error)) from error
        for each in shown:
            self.stdout.write(json.dumps(each) if options["json"] else _lines(each))


def _move(name: str, options: dict[str, Any]) -> None:
    who = {"by": getpass.getuser(), "reason": options["reason"]}
    if options["rewind"] is not None:
        watermarks.rewind(name, options["rewind"], **who)
    elif options["set"] is not None:
        watermarks.move(name, watermarks.incremental(name).parse(options["set"]), **who)
    else:
        watermarks.move(name, None, **who)


def _status(name: str) -> dict[str, Any]:
    status = watermarks.status(name, now=timezone.now())
    return {
        "feed": name,
        "watermark": status.watermark,
        "since": status.since.isoformat() if status.since else None,
        "lag_seconds": round(status.lag.total_seconds()) if status.lag is not None else None,
        "next_from": status.next_from,
        "moves": [_values(move) for move in status.moves[:SHOWN]],
    }


def _values(move: WatermarkMove) -> dict[str, Any]:
    return {
        "at": move.moved_at.isoformat(),
        "by": move.moved_by,
        "before": move.before,
        "after": move.after,
        "reason": move.reason,
    }


def _lines(shown: dict[str, Any]) -> str:
    lag = "" if shown["lag_seconds"] is None else f", {timedelta(seconds=shown['lag_seconds'])} behind"
    at = "none yet" if shown["watermark"] is None else f"{shown['watermark']} since {shown['since']}{lag}"
    asks = "the start" if shown["next_from"] is None else shown["next_from"]
    moves = (
        f"{move['at']}: {move['before']} -> {move['after']} by {move['by']}: {move['reason']}"
        for move in shown["moves"]
    )
    return "\n".join([f"{shown['feed']}: {at}; the next run reads from {asks}", *moves])


def length(text: str) -> timedelta | int:
    """Read a length of time, or a number."""
    found = re.fullmatch(r"([0-9]{1,9})([smhdw]?)", text)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is no length like 90s, 15m, 2h, 3d or 1w, and no number")
    number = int(found[1])
    try:
        return timedelta(**{_UNITS[found[2]]: number}) if found[2] else number
    except OverflowError:
        raise ArgumentTypeError(f"{text} is too long") from None
