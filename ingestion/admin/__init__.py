"""The operators' windows: feeds, runs, hosts and the quarantine. Nothing here can be edited.

People sync feeds, cancel and resume runs, close breakers, and replay rejects. Other apps build their own windows from
`ReadOnlyAdmin`, and close the holes of Django's actions with `GuardedActions`.
"""

from django.contrib import admin

from ingestion.admin.feeds import FeedStateAdmin
from ingestion.admin.files import SourceFileAdmin
from ingestion.admin.hosts import HostAdmin
from ingestion.admin.permissions import GuardedActions
from ingestion.admin.rejects import RejectAdmin
from ingestion.admin.runs import RunAdmin
from ingestion.admin.windows import ReadOnlyAdmin

__all__ = [
    "FeedStateAdmin",
    "GuardedActions",
    "HostAdmin",
    "ReadOnlyAdmin",
    "RejectAdmin",
    "RunAdmin",
    "SourceFileAdmin",
]

admin.site.site_header = "Ingestion"
admin.site.site_title = "Ingestion"
admin.site.index_title = "Feeds, runs and schedules"
