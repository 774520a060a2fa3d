"""A real GraphQL server on loopback: strawberry on Flask, with a collection as a connection and as a list."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import strawberry
from flask import Flask, request
from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.flask.views import GraphQLView
from werkzeug.serving import make_server


@strawberry.type
class Item:
    code: str
    name: str
    broken: strawberry.Private[bool] = False
    amount: strawberry.Private[str | None] = None

    @strawberry.field
    def price(self) -> str | None:
        if self.broken:
            raise GraphQLError("the price of token=abc123 is unknown", extensions={"code": "INTERNAL"})
        return self.amount


@strawberry.type
class Service:
    code: str
    name: str
    hours: int


Product = Annotated[Item | Service, strawberry.union("Product")]


@strawberry.type
class PageInfo:
    has_next_page: bool
    end_cursor: str | None


@strawberry.type
class Edge:
    node: Product | None


@strawberry.type
class Products:
    edges: list[Edge | None]
    nodes: list[Product | None]
    page_info: PageInfo
    total: int


@dataclass
class Stock:
    """What the server has, and what it notes: the variables of each request, and how often it still refuses."""

    products: list[Any]
    cost: dict[str, Any] | None = None
    refusals: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)


@strawberry.type
class Catalogue:
    @strawberry.field
    def products(self, info: strawberry.Info, first: int, after: str | None = None) -> Products:
        stock = info.context["stock"]
        if stock.refusals:
            stock.refusals -= 1
            raise GraphQLError("Throttled", extensions={"code": "THROTTLED"})
        start = int(after or 0)
        page = stock.products[start : start + first]
        end = start + len(page)
        return Products(
            edges=[Edge(node=node) for node in page],
            nodes=page,
            page_info=PageInfo(has_next_page=end < len(stock.products), end_cursor=str(end)),
            total=len(stock.products),
        )

    @strawberry.field
    def listed(self, info: strawberry.Info, offset: int = 0, limit: int = 1_000_000) -> list[Product | None]:
        return info.context["stock"].products[offset : offset + limit]


@strawberry.type
class Query:
    @strawberry.field
    def catalogue(self) -> Catalogue:
        return Catalogue()


class Cost(SchemaExtension):
    def get_results(self) -> dict[str, Any]:
        cost = self.execution_context.context["stock"].cost
        return {"cost": cost} if cost else {}


class View(GraphQLView):
    def get_context(self, request: Any, response: Any) -> Any:
        return {"stock": self.stock}


@contextmanager
def serve(stock: Stock) -> Iterator[str]:
    """Serve the stock; yields the URL."""
    app = Flask(__name__)
    schema = strawberry.Schema(query=Query, types=[Item, Service], extensions=[Cost])
    view = type("StockView", (View,), {"stock": stock}).as_view("graphql", schema=schema)
    app.add_url_rule("/graphql", view_func=view)

    @app.before_request
    def note() -> None:
        stock.requests.append(request.get_json() | {"headers": dict(request.headers)})

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/graphql"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
