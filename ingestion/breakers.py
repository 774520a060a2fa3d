"""Circuit breakers: hosts that fail again and again are left alone, and tried by one part at a time. No network.

Note [Breakers]: what fails is an attempt at a part, which has made several tries of a request. So many of them in a row
on one host, over all its feeds, open its breaker: parts that are due wait then, without an attempt being counted. When
its pause is over, the first part that is claimed probes the host; the others wait on, until it has committed a chunk,
which closes the breaker, or has failed too, which makes the pause longer. A probe lasts as long as its part is leased
in the epoch it began with: one whose process dies is over by itself. A request that fails although the host answers
(500) counts once in a row for each part: one page that always fails is the feed's own matter.

Locks are taken in the order part, host, run; other parts only where they are free.
"""

from datetime import datetime, timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now

from ingestion import waits
from ingestion.errors import Blame, WrongState
from ingestion.models import Host, Part, Run, State
from ingestion.transactions import brief

log = structlog.get_logger(__name__)

# From the opening to the first probe; doubled with each one that fails.
PAUSE: Final = timedelta(seconds=10)
PAUSE_MAX: Final = timedelta(minutes=5)
# When parts look again that met a probe under way: its end tells them earlier, unless its process dies.
LOOK: Final = timedelta(seconds=10)
# Failures that are further apart are not in a row.
FORGOTTEN_AFTER: Final = timedelta(minutes=10)
# How what a part waits for begins when that is its host's breaker.
WAITS: Final = "its host, "
_UNDER_WAY: Final = Q(state=State.RUNNING, leased_until__gte=Now())


def is_held_up(part: Part) -> bool:
    """Whether a part that is due has to wait for its host, which fails; then it does so. Or it probes the host.

    Joins the caller's transaction, which has locked the part and is about to claim it. Costs one query while the
    breaker is closed.
    """
    name = part.run.host
    if not name or not settings.HOST_FAILURES or not _open(name).exists():
        return False
    host = _locked(_open(name))
    if host is None:
        return False
    now: datetime = host.now  # type: ignore[attr-defined]  # annotated
    assert host.probe_at is not None
    if _is_probed(host):
        _postpone(part, host, now + LOOK)
        return True
    if host.probe_at > now:
        _postpone(part, host, host.probe_at)
        return True
    Host.objects.filter(pk=host.pk).update(probe=part, probe_epoch=part.epoch + 1)
    return False


def note_failure(part: Part, reason: str, blames: Blame) -> datetime | None:
    """Count an attempt that failed against the part's host; return until when its parts wait, if they do.

    Joins the caller's transaction, which has locked the part.
    """
    if not blames or not part.run.host or not settings.HOST_FAILURES:
        return None
    Host.objects.bulk_create([Host(name=part.run.host)], ignore_conflicts=True)
    host = _locked(Host.objects.filter(name=part.run.host))
    assert host is not None
    if host.opened_at is None:
        return _count(host, part, reason, blames)
    if (host.probe_id, host.probe_epoch) == (part.pk, part.epoch):
        return _prolong(host, reason)
    # It was under way when the breaker was opened.
    return host.probe_at


def note_success(name: str) -> None:
    """Close the breaker of a host that has given what is committed now, and forget its failures; mostly a query."""
    if name and Host.objects.filter(name=name, failures__gt=0).exists():
        _close(name)


def listed() -> QuerySet[Host]:
    """Return the hosts with `is_probed`, and with `waiting`: how many parts wait for each."""
    waits = _waiting().filter(run__host=OuterRef("name")).order_by().values("run__host").annotate(parts=Count("pk"))
    probe = _UNDER_WAY & Q(pk=OuterRef("probe"), epoch=OuterRef("probe_epoch"))
    return Host.objects.annotate(
        is_probed=Exists(Part.objects.filter(probe)), waiting=Coalesce(Subquery(waits.values("parts")), 0)
    )


def state_of(host: Host) -> str:
    """Return the state of a listed host's breaker: closed, open, or half-open while a probe is under way."""
    if host.opened_at is None:
        return "closed"
    return "half-open" if host.is_probed else "open"  # type: ignore[attr-defined]  # annotated


def text(reason: str) -> str:
    """Return what a part waits for whose host fails."""
    return f"{WAITS}which fails: {reason}"


def close(name: str, *, by: str) -> None:
    """Close the breaker of a host by hand: its parts are due at once.

    Raises:
        WrongState: it is not open.
    """
    if not _close(name, by=by):
        raise WrongState(f"the breaker of {name} is not open")


def _count(host: Host, part: Part, reason: str, blames: Blame) -> datetime | None:
    now: datetime = host.now  # type: ignore[attr-defined]  # annotated
    is_in_row = host.failed_at is not None and now - host.failed_at < FORGOTTEN_AFTER
    failures = host.failures if is_in_row else 0
    if blames == "host" or host.failed_part_id != part.pk or not failures:
        failures += 1
    is_open = failures >= settings.HOST_FAILURES
    host.failures, host.failed_at, host.failed_part, host.reason = failures, now, part, reason
    if is_open:
        host.opened_at, host.probe_at, host.probes = now, now + PAUSE, 0
        host.probe, host.closed_by = None, ""
        log.warning("host fails, its feeds wait", host=host.name, failures=failures, error=reason)
    host.save()
    return host.probe_at


def _prolong(host: Host, reason: str) -> datetime:
    now: datetime = host.now  # type: ignore[attr-defined]  # annotated
    probes = host.probes + 1
    probe_at: datetime = now + min(PAUSE * 2**probes, PAUSE_MAX)
    Host.objects.filter(pk=host.pk).update(
        probes=probes, probe_at=probe_at, probe=None, failed_at=now, reason=reason, failures=host.failures + 1
    )
    Part.objects.filter(pk__in=_free(host.name)).update(next_attempt_at=probe_at, woken_at=None)
    log.warning("host still fails", host=host.name, probes=probes, error=reason)
    return probe_at


def _close(name: str, *, by: str = "") -> bool:
    with brief():
        host = _locked(Host.objects.filter(name=name, failures__gt=0))
        if host is None or (by and host.opened_at is None):
            return False
        Host.objects.filter(pk=host.pk).update(
            failures=0, failed_part=None, opened_at=None, probe_at=None, probe=None, probes=0
        )
        if host.opened_at is None:
            return True
        Host.objects.filter(pk=host.pk).update(closed_at=Now(), closed_by=by)
        due = {"state": State.QUEUED, "next_attempt_at": None, "waiting_for": "", "woken_at": None}
        Part.objects.filter(pk__in=_free(name)).update(**due)
    if by:
        log.info("breaker closed by hand", host=name, by=by)
    else:
        log.info("host answers, its feeds go on", host=name)
    return True


def _free(name: str) -> list[int]:
    """Lock and return the parts that wait for the host; one that is locked is being claimed, and finds out itself."""
    free = _waiting().filter(run__host=name).select_for_update(skip_locked=True, no_key=True, of=("self",))
    return list(free.order_by().values_list("pk", flat=True))


def _postpone(part: Part, host: Host, until: datetime) -> None:
    """Let a part that is due wait without an attempt; its run, when no other part is at work."""
    waits.begin(Part.objects.filter(pk=part.pk), until, text(host.reason))
    waits.begin_run(Run.objects.select_for_update(no_key=True).get(pk=part.run_id))


def _open(name: str) -> QuerySet[Host]:
    return Host.objects.filter(name=name, opened_at__isnull=False)


def _locked(hosts: QuerySet[Host]) -> Host | None:
    return hosts.select_for_update(no_key=True).annotate(now=Now()).order_by().first()


def _is_probed(host: Host) -> bool:
    """Whether a probe is under way."""
    # Asked for after the host was locked: what was committed until then is seen.
    if host.probe_id is None:
        return False
    return Part.objects.filter(_UNDER_WAY, pk=host.probe_id, epoch=host.probe_epoch).exists()


def _waiting() -> QuerySet[Part]:
    return Part.objects.filter(state=State.WAITING, waiting_for__startswith=WAITS)
