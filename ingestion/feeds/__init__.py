"""Feeds: what to sync. Values declared in an app's `feeds.py`, resolved here against their Django models."""

from ingestion.feeds.columns import as_rule, rule_fits
from ingestion.feeds.declarations import DRIFT_POLICIES, MEBIBYTE, Feed, RejectLimit, declared, env_text, env_url, get
from ingestion.feeds.definitions import Incomparable, definition_of
from ingestion.feeds.fields import KINDS, ModelField, columns_of, database_fills, is_unique, kind_of
from ingestion.feeds.plans import Plan, resolve
from ingestion.feeds.relations import Relation, problems_by, problems_of_missing
from ingestion.feeds.targets import (
    ALLOW_DELETE_SHARE,
    Append,
    History,
    Mirror,
    Replace,
    SoftDelete,
    Target,
    Upsert,
    own_fields,
)

__all__ = [
    "ALLOW_DELETE_SHARE",
    "DRIFT_POLICIES",
    "KINDS",
    "MEBIBYTE",
    "Append",
    "Feed",
    "History",
    "Incomparable",
    "Mirror",
    "ModelField",
    "Plan",
    "RejectLimit",
    "Relation",
    "Replace",
    "SoftDelete",
    "Target",
    "Upsert",
    "as_rule",
    "columns_of",
    "database_fills",
    "declared",
    "definition_of",
    "env_text",
    "env_url",
    "get",
    "is_unique",
    "kind_of",
    "own_fields",
    "problems_by",
    "problems_of_missing",
    "resolve",
    "rule_fits",
]
