"""What the documents list is what the code has: codes, states, names, arguments, defaults, options, paths, links."""

import dataclasses
import importlib
import re
from datetime import timedelta

import django.db
import httpx
import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

from ingestion import auth, http, incremental, pagination, parts, sources
from ingestion import types as values
from ingestion.feeds import MEBIBYTE, Append, Feed, History, Mirror, RejectLimit, Replace, Upsert
from ingestion.models import State
from tests.docs import codes, documents
from tests.processes import ROOT

FEEDS, SOURCES, OPERATIONS, README = "docs/feeds.md", "docs/sources.md", "docs/operations.md", "README.md"
# What a default is written with.
NAMES = {
    "timedelta": timedelta, "MEBIBYTE": MEBIBYTE, "RejectLimit": RejectLimit, "Retry": http.Retry,
    "Limits": http.Limits, "Answers": http.Answers, "Transport": http.Transport,
    "TRANSIENT_STATUSES": http.TRANSIENT_STATUSES, "FileLimits": sources.FileLimits, "GIBIBYTE": 1024 * MEBIBYTE,
}  # fmt: skip


def first_cells(name: str, heading: str) -> set[str]:
    """Return what stands in backticks in the first column of a table."""
    return {text for row in documents.rows(name, heading) for text in re.findall(r"`([^`]+)`", row[0])}


@pytest.mark.parametrize(
    ("heading", "of_the_code"),
    [
        ("## States", lambda: set(State.values)),
        ("## Errors of runs", lambda: codes.raised("RunFailed")),
        ("## Reasons of rejects", lambda: codes.raised("RecordRejected")),
        ("## Configuration errors", codes.check_ids),
        ("## Log events", lambda: codes.log_events() | {"stamina.retry_scheduled"}),
    ],
)
def test_the_operations_guide_lists_exactly_what_the_code_has(heading, of_the_code):
    assert first_cells(OPERATIONS, heading) == of_the_code()


def test_an_error_code_that_is_not_a_literal_is_followed_to_where_it_comes_from():
    found = codes.raised("RecordRejected")
    assert {"missing_key", "missing_value", "lone_surrogate"} <= found


@pytest.mark.parametrize("heading", ["## Errors without a code", "## Embedded servers"])
def test_quoted_messages_are_messages_of_the_code(heading):
    known = codes.messages()
    for quoted in first_cells(OPERATIONS, heading):
        is_known = all(part.strip(" :") in known for part in quoted.split("…"))
        assert is_known or hasattr(httpx, quoted) or hasattr(django.db, quoted), f"nothing says {quoted!r}"


@pytest.mark.parametrize("module", ["auth", "feeds", "sources", "pagination", "parts", "cleaning", "incremental"])
def test_each_public_name_is_in_the_guide_to_feeds(module):
    found = importlib.import_module(f"ingestion.{module}")
    exported = getattr(found, "__all__", None) or [
        name
        for name, value in vars(found).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == found.__name__
    ]
    assert exported
    written = set(
        re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", documents.prose(FEEDS) + documents.prose(SOURCES))))
    )
    assert [name for name in exported if name not in written] == []


def tables_of_arguments():
    """Return the rows of each table of arguments, by the paragraph in front of it in one line."""
    tables, paragraph = {}, ""
    for block in f"{documents.text_of(FEEDS)}\n\n{documents.text_of(SOURCES)}".split("\n\n"):
        if block.startswith("| argument |"):
            lines = block.strip().splitlines()[2:]
            tables[paragraph] = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        paragraph = " ".join(block.split())
    return tables


@pytest.mark.parametrize(
    ("described", "start"),
    [
        (Feed, "`ingestion.feeds.Feed`"),
        (RejectLimit, "more that is rejected whole fails the run."),
        (sources.JsonApi, "`ingestion.sources.JsonApi`"),
        (sources.GraphQL, "`ingestion.sources.GraphQL`"),
        (sources.Soap, "`ingestion.sources.Soap`"),
        (sources.Connection, "`ingestion.sources.Connection`"),
        (sources.ForEach, "`source` has `{parent}` in"),
        (sources.TableRows, "comes once, in order; null is left out."),
        (sources.Files, "`ingestion.sources.Files`"),
        (sources.Export, "it is ready, then its file is read"),
        (sources.Web, "server that tells neither"),
        (sources.S3, "`S3`: a bucket"),
        (sources.Ftp, "right. The version is size"),
        (sources.Sftp, "`Sftp`: a folder"),
        (sources.Csv, "numbers count as coerced"),
        (sources.Ndjson, "the middle fails the run"),
        (sources.Json, "`ingestion.sources.Json`"),
        (sources.Xml, "fails with `xml_dtd`"),
        (sources.Excel, "have no zone; empty cells"),
        (sources.FileLimits, "a member's name. A zip file takes"),
        (http.Retry, "worker. When the tries"),
        (http.Limits, "`ingestion.http.Limits`"),
        (pagination.PageNumber, "`PageNumber`: pages"),
        (pagination.NextCursor, "0 does not."),
        (pagination.Keyset, "after the value, not from it on."),
        (pagination.NextUrl, "`NextUrl`: the body"),
        (pagination.LinkHeader, "`LinkHeader`: the Link header"),
        (auth.ClientCredentials, "`ClientCredentials`:"),
        (auth.RefreshToken, "`RefreshToken` takes these"),
        (auth.Login, "`Login`: once for each slice"),
        (auth.Hmac, "`Hmac`:"),
        (http.Answers, "`ingestion.http.Answers`"),
        (http.Transport, "`ingestion.http.Transport`"),
        (http.Rate, "part is set aside until then."),
        (incremental.Incremental, "highest value of a field of its records"),
        (parts.PageRanges, "when the collection grows."),
        (parts.Windows, "a run is open-ended."),
        (parts.ParentGroups, "there. Shares hold the parents' values"),
        (parts.FileGroups, "Each part lists the place once"),
    ],
)
def test_arguments_and_defaults_are_those_of_the_code(described, start):
    tables = tables_of_arguments()
    (table,) = (rows for paragraph, rows in tables.items() if start in paragraph)
    written = {argument.strip("`"): default for argument, default, _ in table}
    actual = {}
    for field in dataclasses.fields(described):
        is_made = field.default_factory is not dataclasses.MISSING
        actual[field.name] = field.default_factory() if is_made else field.default
    assert {
        name: dataclasses.MISSING if default == "required" else eval(default.strip("`"), NAMES)
        for name, default in written.items()
    } == actual


@pytest.mark.parametrize("target", [Append, Upsert, Replace, Mirror, History])
def test_the_arguments_of_targets_and_their_defaults_are_those_of_the_code(target):
    def written(field):
        default = f'"{field.default}"' if isinstance(field.default, str) else repr(field.default)
        return field.name if field.default is dataclasses.MISSING else f"{field.name}={default}"

    arguments = ", ".join(map(written, dataclasses.fields(target)))
    assert f"`{target.__name__}({arguments})`" in documents.text_of(FEEDS)


def test_the_fields_of_a_page_are_those_of_the_code():
    table = documents.rows(FEEDS, "## A source of your own")
    assert [row[0].strip("`") for row in table] == [field.name for field in dataclasses.fields(values.Page)]


def own_commands():
    return sorted(name for name, app in get_commands().items() if app in ("ingestion", "photos", "worker", "config"))


def test_the_readme_lists_every_command_with_its_options():
    listed = {re.findall(r"manage\.py (\w+)", row[0])[0]: row for row in documents.rows(README, "## Commands")}
    assert sorted(listed) == own_commands()
    for name, (_, _, options) in listed.items():
        command = load_command_class(get_commands()[name], name)
        ours = {option for action in command.create_parser("", name)._actions for option in action.option_strings}
        base = {option for action in BaseCommand().create_parser("", name)._actions for option in action.option_strings}
        assert set(re.findall(r"`(--[\w-]+)", options)) == ours - base, name


@pytest.mark.parametrize("name", documents.NAMES)
def test_links_lead_somewhere(name):
    for link in documents.links(name):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = ((ROOT / name).parent / target).resolve() if target else ROOT / name
        assert path.exists(), f"{name} links to {link}, which is not there"
        assert not anchor or anchor in documents.anchors(path.relative_to(ROOT).as_posix()), f"{name}: no {link}"


@pytest.mark.parametrize("name", documents.NAMES)
def test_paths_and_tests_that_are_named_exist(name):
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    text = re.sub(r"<!--.*?-->", "", documents.text_of(name), flags=re.DOTALL)
    for path, _, test in re.findall(rf"((?:{folders})/[\w./-]*\w/?)(::(\w+))?", text):
        assert (ROOT / path).exists(), f"{name} names {path}"
        assert not test or f"def {test}(" in (ROOT / path).read_text(), f"{name} names the test {test}"


def test_decisions_are_newest_first():
    dates = re.findall(r"^## (\d{4}-\d\d-\d\d): .+$", documents.text_of("docs/decisions.md"), flags=re.MULTILINE)
    assert dates
    assert len(dates) == documents.text_of("docs/decisions.md").count("\n## ")
    assert dates == sorted(dates, reverse=True)
