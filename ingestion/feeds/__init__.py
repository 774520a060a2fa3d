"""Feeds: what to sync. Values declared in an app's `feeds.py`, resolved here against their Django models."""

from ingestion.feeds.declarations import DRIFT_POLICIES, MEBIBYTE, Feed, RejectLimit, declared, env_url, get
from ingestion.feeds.plans import KINDS, ModelField, Plan, as_rule, columns_of, kind_of, resolve, rule_fits
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
    "Mirror",
    "ModelField",
    "Plan",
    "RejectLimit",
    "Replace",
    "SoftDelete",
    "Target",
    "Upsert",
    "as_rule",
    "columns_of",
    "declared",
    "env_url",
    "get",
    "kind_of",
    "own_fields",
    "resolve",
    "rule_fits",
]
