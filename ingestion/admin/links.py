"""Links between the windows."""

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString


def to_feed(pk: int, name: str) -> SafeString:
    return _link(reverse("admin:ingestion_feedstate_change", args=(pk,)), name)


def to_run(pk: int) -> SafeString:
    return _link(run_url(pk), f"run {pk}")


def run_url(pk: int) -> str:
    return reverse("admin:ingestion_run_change", args=(pk,))


def to_runs(feed_pk: int, text: str = "runs") -> SafeString:
    return _link(_listed("run", feed__id__exact=feed_pk), text)


def to_rejects(text: str = "rejects", *, feed_pk: int | None = None, run_pk: int | None = None) -> SafeString:
    """Link to the rejects of a feed or of a run."""
    if run_pk is not None:
        return _link(_listed("reject", run__id__exact=run_pk), text)
    return _link(_listed("reject", feed__id__exact=feed_pk), text)


def to_files(feed_pk: int, text: str = "loaded files") -> SafeString:
    return _link(_listed("sourcefile", feed__id__exact=feed_pk), text)


def _listed(model: str, **filters: int | None) -> str:
    query = "&".join(f"{name}={value}" for name, value in filters.items())
    return f"{reverse(f'admin:ingestion_{model}_changelist')}?{query}"


def _link(url: str, text: str) -> SafeString:
    return format_html('<a href="{}">{}</a>', url, text)
