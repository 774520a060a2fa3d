"""Who takes part: a registry of values. A write mode or a peer more is one entry more."""

import platform
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from tests.bench import shapes
from tests.bench.shapes import Shape

# Named for the machine, as its packages are.
SLING = f"sling_linux_{'arm64' if platform.machine() == 'aarch64' else 'amd64'}"

# How many rows: what --rows says, a tenth and ten times of it, or what the other shapes get.
Scale = Literal["main", "small", "large", "shape"]
# What the table holds when the time begins: nothing; the same rows; the same rows but for one in a hundred; what an
# untimed run of the same contender left.
Start = Literal["empty", "filled", "changed", "ran"]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to load rows, and from where to where.

    `load` names a function of `tests.bench.loads`, `option` is its argument (for the engine the feed's name), `floor`
    is the contender it is compared with. `does` and `lacks` tell readers what they compare.
    """

    name: str
    load: str
    shape: Shape
    floor: str
    does: str
    lacks: str = ""
    option: str = ""
    scale: Scale = "main"
    start: Start = "empty"
    source: Literal["HTTP", "GraphQL", "CSV", "CSV, S3", "file", "JSON lines"] = "HTTP"
    delay_ms: int = 0  # what the remote waits before each page
    package: str = ""  # the peer's; it runs in the peers' environment

    @property
    def is_engine(self) -> bool:
        return self.load == "engine:ingest"


_floor = partial(
    Contender,
    load="plain:floor",
    source="file",
    does="COPY FROM a file that the server reads itself, one transaction",
    lacks="fetching, reading JSON, checking values, a client",
)

_ENGINE = "types, lengths and ranges checked; bad records kept; rows, counters and cursor committed per chunk, fenced"
_engine = partial(Contender, load="engine:ingest", does=_ENGINE)
_upsert = partial(_engine, option="photos", shape=shapes.PHOTOS, floor="floor, unique key")

ENGINE = (
    _engine(name="engine append", option="bench-append", shape=shapes.PLAIN, floor="floor"),
    _upsert(name="engine upsert"),
    _upsert(name="engine upsert, identical", start="filled"),
    _upsert(name="engine upsert, 1 % changed", start="changed"),
    _upsert(name="engine upsert, unchanged pages skipped", option="bench-skip", shape=shapes.KEYED, start="ran"),
    _engine(name="engine replace", option="bench-replace", shape=shapes.PLAIN, floor="floor"),
    _engine(name="engine mirror", option="bench-mirror", shape=shapes.KEYED, floor="floor, unique key"),
    _engine(
        name="engine mirror, identical",
        option="bench-mirror",
        shape=shapes.KEYED,
        floor="floor, unique key",
        start="filled",
    ),
    _engine(
        name="engine upsert, one bad record a page",
        option="bench-dirty",
        shape=shapes.DIRTY,
        floor="floor, unique key",
    ),
)

# The same photos from other kinds of sources into the table that `engine append` fills.
_kind = partial(_engine, floor="floor")

SOURCES = (
    _kind(name="engine append, GraphQL", option="bench-graphql", shape=shapes.PLAIN, source="GraphQL"),
    _kind(name="engine append, CSV", option="bench-csv", shape=shapes.TEXTS, source="CSV"),
    _kind(name="engine append, CSV from S3", option="bench-s3", shape=shapes.TEXTS, source="CSV, S3"),
)

# A page that a remote on the same continent makes and sends takes about so long.
REMOTE_MS = 20

_workers = partial(
    _engine,
    option="bench-parts",
    shape=shapes.KEYED,
    floor="floor, unique key",
    does=f"{_ENGINE}; the run is cut into two parts",
)

WORKERS = tuple(
    _workers(
        name=f"engine parts, {number} worker{'s' * (number > 1)}{label}", load=f"workers:{load}", delay_ms=delay_ms
    )
    for delay_ms, label in ((0, ""), (REMOTE_MS, f", {REMOTE_MS} ms a page"))
    for number, load in ((1, "one"), (2, "two"))
)

# The article's table has three columns of data; `photos.article` says what was changed in its code.
LOADED = replace(shapes.PHOTOS, table="load_data_photos", paths={"title": ("title",), "url": ("url",), "raw_data": ()})
_article = partial(Contender, load="plain:article", shape=LOADED, floor="floor")
_ARTICLE_LACKS = "checking values; the key and three of the six columns; "

ARTICLE = (
    Contender(
        name="bare loop",
        load="plain:bare_loop",
        shape=shapes.PLAIN,
        floor="floor",
        does="httpx, json.loads, join, json.dumps, copy_from",
        lacks="checking values, escaping more than newlines; commits on the way: a failure loads nothing",
    ),
    _article(
        name="article bulk_create",
        option="bulk_create",
        does="instances, then one INSERT",
        lacks=_ARTICLE_LACKS + "bounded memory",
    ),
    _article(
        name="article bulk_create_db",
        option="bulk_create_db",
        does="as before, timestamps by the database",
        lacks=_ARTICLE_LACKS + "bounded memory",
    ),
    _article(
        name="article StringIO",
        option="string_io_db",
        does="one string, then COPY",
        lacks=_ARTICLE_LACKS + "bounded memory",
    ),
    _article(
        name="article StringIteratorIO",
        option="string_iterator_db",
        does="COPY while the lines are made",
        lacks=_ARTICLE_LACKS + "commits on the way",
    ),
)

_dlt = partial(
    Contender,
    load="dlt_pipeline:run_pipeline",
    shape=replace(shapes.PHOTOS, table="bench_dlt.photos"),
    floor="floor",
    package="dlt",
    lacks="the constraints and keys of the table, which it makes itself",
)

PEERS = (
    Contender(
        name="psycopg 3 COPY",
        load="peers:psycopg3",
        shape=shapes.PLAIN,
        floor="floor",
        package="psycopg",
        does="httpx, json.loads, write_row (C)",
        lacks="checking values beyond PostgreSQL's own types; commits on the way",
    ),
    Contender(
        name="django-postgres-copy",
        load="peers:django_postgres_copy",
        shape=shapes.PLAIN,
        floor="floor",
        package="postgres_copy",
        does="Django on psycopg 3: CSV file, COPY into a temporary table of text, INSERT … SELECT with casts",
        lacks="surviving a bad value: it fails the whole file; commits on the way",
    ),
    _dlt(name="dlt insert_values", option="insert_values", does="the same with its default format: INSERT … VALUES"),
    _dlt(
        name="dlt csv",
        option="csv",
        does="three steps with files between them: fetched, normalized (types inferred), COPY of CSV files",
    ),
    _dlt(
        name="dlt arrow",
        option="arrow",
        does="pages made Arrow tables by the caller, then COPY of CSV files; dlt's normalizer is left out",
    ),
    Contender(
        name="sling",
        load="peers:sling",
        shape=shapes.PLAIN,
        floor="floor",
        source="JSON lines",
        package=SLING,
        does="a Go program, whose start is timed: a local file, COPY straight into the table, types given",
        lacks="fetching; surviving a bad value: it fails the whole file",
    ),
)

_SHAPES = {"wide": shapes.WIDE, "nested": shapes.NESTED, "tiny": shapes.TINY}

OTHER_SHAPES = tuple(
    contender
    for name, shape in _SHAPES.items()
    for contender in (
        _floor(name=f"floor, {name}", shape=shape, floor=f"floor, {name}", scale="shape"),
        _engine(
            name=f"engine upsert, {name}", option=f"bench-{name}", shape=shape, floor=f"floor, {name}", scale="shape"
        ),
    )
)

FLOORS = (
    _floor(name="floor", shape=shapes.PLAIN, floor="floor"),
    _floor(name="floor, unique key", shape=shapes.PHOTOS, floor="floor, unique key"),
)

_GROWING = (*FLOORS, *(contender for contender in ENGINE if contender.name in ("engine append", "engine upsert")))

GROWTH = tuple(
    replace(contender, name=f"{contender.name}, {label}", floor=f"{contender.floor}, {label}", scale=scale)
    for scale, label in (("small", "× 0.1"), ("large", "× 10"))
    for contender in _GROWING
)

ALL = (*FLOORS, *ENGINE, *SOURCES, *WORKERS, *ARTICLE, *PEERS, *OTHER_SHAPES, *GROWTH)


def row_count(contender: Contender, *, rows: int, shape_rows: int) -> int:
    return {"main": rows, "small": rows // 10, "large": rows * 10, "shape": shape_rows}[contender.scale]
