"""One feed for each kind of source. Each needs the variables that it names, when it is run."""

from datetime import timedelta

from examples.models import Item
from ingestion.cleaning import constant, decimal, timestamp
from ingestion.feeds import Feed, Upsert, env_text, env_url
from ingestion.incremental import Incremental
from ingestion.pagination import LinkHeader, NextCursor, PageNumber, SinglePage
from ingestion.parts import FileGroups, ParentGroups
from ingestion.sources import (
    S3,
    Connection,
    Csv,
    Disk,
    Excel,
    Export,
    Files,
    ForEach,
    Ftp,
    GraphQL,
    Json,
    JsonApi,
    Ndjson,
    Sftp,
    Soap,
    TableRows,
    Web,
    Xml,
)

COLUMNS = {"code": "code", "name": "name", "price": "price"}
TARGET = Upsert(Item, key=("source", "code"))

# A REST endpoint that says where its next page is, as GitHub does.
LINKED = Feed(
    name="examples-links",
    source=JsonApi(url=env_url("EXAMPLES_URL", "/items"), params={"per_page": "100"}, pagination=LinkHeader()),
    columns={**COLUMNS, "source": constant("links")},
    target=TARGET,
)

# One that is asked for what has changed since the last run; an hour of it comes again, for what it shows late.
CHANGED = Feed(
    name="examples-changes",
    source=JsonApi(
        url=env_url("EXAMPLES_URL", "/changes"), pagination=PageNumber(param="page", size_param="size", size=100)
    ),
    columns={**COLUMNS, "source": constant("changes")},
    target=TARGET,
    incremental=Incremental(
        field=timestamp("changed", unit="s"),
        since="changed_since",
        overlap=timedelta(hours=1),
        retention=timedelta(days=90),
    ),
)

# One that is asked with a POST, and answers with lists inside its records and a cursor beside them.
POSTED = Feed(
    name="examples-post",
    source=JsonApi(
        url=env_url("EXAMPLES_URL", "/orders/search"),
        method="POST",
        body={"status": "open", "page": {"size": 50}},
        pagination=NextCursor(param="page.after", cursor=("meta", "next"), has_more=("meta", "more"), place="body"),
        records=("orders",),
        expand="lines",
        parent_as="order",
    ),
    columns={**COLUMNS, "name": "order.title", "source": constant("post")},
    target=TARGET,
)

# An endpoint for the children of each record of another one; it answers in NDJSON. Workers share the parents, and each
# asks for the children of four at once.
CHILDREN = Feed(
    name="examples-children",
    source=ForEach(
        parents=JsonApi(
            url=env_url("EXAMPLES_URL", "/shelves"), pagination=PageNumber(param="page", size_param="size", size=100)
        ),
        field=("id",),
        source=JsonApi(
            url=env_url("EXAMPLES_URL", "/shelves/{parent}/items"), pagination=SinglePage(), format=Ndjson()
        ),
        concurrency=4,
    ),
    columns={**COLUMNS, "source": constant("children")},
    target=TARGET,
    parts=ParentGroups(parents=500),
)

# An endpoint that is asked for each row of a table of ours (those of the first example), and answers with one record.
DETAILS = Feed(
    name="examples-details",
    source=ForEach(
        parents=TableRows(rows=lambda: Item.objects.filter(source="links"), field="code"),
        field=("code",),
        source=JsonApi(url=env_url("EXAMPLES_URL", "/items/{parent}"), single=True, pagination=SinglePage()),
    ),
    columns={**COLUMNS, "source": constant("details")},
    target=TARGET,
)

# A GraphQL connection, whose members may be of several types.
GRAPHQL = Feed(
    name="examples-graphql",
    source=GraphQL(
        url=env_url("EXAMPLES_URL", "/graphql"),
        query="""query ($first: Int!, $after: String) {
          catalogue { products(first: $first, after: $after) {
            edges { node { ... on Item { code name price } ... on Service { code name } } }
            pageInfo { endCursor hasNextPage }
          } }
        }""",
        records=("catalogue", "products"),
        pagination=Connection(size=100),
    ),
    columns={**COLUMNS, "source": constant("graphql"), "price": decimal("price", default=None)},
    target=TARGET,
)

# An operation of a SOAP service, page by page, with a user name token.
SOAP = Feed(
    name="examples-soap",
    source=Soap(
        wsdl=env_url("EXAMPLES_URL", "/service?wsdl"),
        operation="GetItems",
        records=("items", "item"),
        pagination=PageNumber(param="request.page", size=100, size_param="request.size", total=("total",)),
        user="reader",
        password=env_text("EXAMPLES_PASSWORD"),
    ),
    columns={**COLUMNS, "source": constant("soap")},
    target=TARGET,
)

# An export that is created with a POST, made by the remote in some minutes, and downloaded from its storage.
EXPORTED = Feed(
    name="examples-export",
    source=Export(
        url=env_url("EXAMPLES_URL", "/exports"),
        status=env_url("EXAMPLES_URL", "/exports/{export}"),
        body={"table": "items", "format": "ndjson"},
        state=("export", "state"),
        ready=frozenset({"completed"}),
        failed=frozenset({"failed", "cancelled"}),
        link=("export", "files"),
        format=Ndjson(),
    ),
    columns={**COLUMNS, "source": constant("export")},
    target=TARGET,
)

# A folder where others drop exports, as a spreadsheet writes them: each file once, moved away when it is loaded.
DROPPED = Feed(
    name="examples-disk",
    source=Files(
        place=Disk(folder=env_text("EXAMPLES_FOLDER")),
        pattern="*.csv",
        format=Csv(delimiter=";", encoding="cp1252"),
        move_to="loaded",
    ),
    columns={**COLUMNS, "source": constant("disk"), "price": decimal("price", comma=True)},
    target=TARGET,
)

# An export behind a URL, compressed: read when its ETag has changed.
DOWNLOADED = Feed(
    name="examples-web",
    source=Files(place=Web(urls=env_url("EXAMPLES_URL", "/items.ndjson.gz")), format=Ndjson()),
    columns={**COLUMNS, "source": constant("web")},
    target=TARGET,
)

# One JSON document behind a URL, with the list inside.
DOCUMENT = Feed(
    name="examples-json",
    source=Files(place=Web(urls=env_url("EXAMPLES_URL", "/items.json")), format=Json(records=("data", "items"))),
    columns={**COLUMNS, "source": constant("json")},
    target=TARGET,
)

# All CSV files below a prefix of a bucket, in every folder; several workers take some of them each.
BUCKET = Feed(
    name="examples-s3",
    source=Files(
        place=S3(
            bucket="examples",
            endpoint=env_url("EXAMPLES_S3_URL"),
            key_id=env_text("EXAMPLES_S3_KEY_ID"),
            secret=env_text("EXAMPLES_S3_SECRET"),
        ),
        pattern="items/**/*.csv*",
        format=Csv(),
    ),
    columns={**COLUMNS, "source": constant("s3")},
    target=TARGET,
    parts=FileGroups(files=10),
)

# XML from an FTP server with TLS.
FTP = Feed(
    name="examples-ftp",
    source=Files(
        place=Ftp(
            host="127.0.0.1",
            port=2121,
            user="examples",
            password=env_text("EXAMPLES_PASSWORD"),
            ca_file="examples.pem",
        ),
        pattern="*.xml",
        format=Xml(record="item"),
    ),
    columns={**COLUMNS, "code": "@code", "source": constant("ftp")},
    target=TARGET,
)

# Excel files from an SFTP server, whose key is known.
SFTP = Feed(
    name="examples-sftp",
    source=Files(
        place=Sftp(
            host="127.0.0.1",
            port=2222,
            user="examples",
            password=env_text("EXAMPLES_PASSWORD"),
            known_hosts=env_text("EXAMPLES_KNOWN_HOSTS"),
        ),
        pattern="*.xlsx",
        format=Excel(sheet="Items"),
    ),
    columns={**COLUMNS, "source": constant("sftp")},
    target=TARGET,
)
