"""Collections behind SOAP services."""

from ingestion.sources.soap.source import Soap

__all__ = ["Soap"]
