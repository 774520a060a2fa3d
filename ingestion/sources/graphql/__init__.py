"""Collections behind GraphQL endpoints."""

from ingestion.sources.graphql.connections import Connection
from ingestion.sources.graphql.source import GraphQL

__all__ = ["Connection", "GraphQL"]
