"""Collections behind GraphQL endpoints."""

from ingestion.sources.graphql.source import GraphQL

__all__ = ["GraphQL"]
