"""The HTTP client: one response whole, or why not. Only this package knows httpx, only `network` judges addresses."""

from ingestion.http.client import Client
from ingestion.http.downloads import Download
from ingestion.http.judging import Answered, blame_of
from ingestion.http.network import addresses_of_files
from ingestion.http.origins import origin_of
from ingestion.http.secrecy import Sent, hidden, secrets_in
from ingestion.http.values import (
    TRANSIENT_STATUSES,
    Answers,
    Auth,
    Limits,
    Meaning,
    QueryAuth,
    Rate,
    Request,
    Response,
    Retry,
    Signer,
    TransientFailure,
    Transport,
    is_header_value,
)
from ingestion.http.waiting import LONGEST_SLEEP, LONGEST_WAIT

__all__ = [
    "LONGEST_SLEEP",
    "LONGEST_WAIT",
    "TRANSIENT_STATUSES",
    "Answered",
    "Answers",
    "Auth",
    "Client",
    "Download",
    "Limits",
    "Meaning",
    "QueryAuth",
    "Rate",
    "Request",
    "Response",
    "Retry",
    "Sent",
    "Signer",
    "TransientFailure",
    "Transport",
    "addresses_of_files",
    "blame_of",
    "hidden",
    "is_header_value",
    "origin_of",
    "secrets_in",
]
