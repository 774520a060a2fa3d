"""Groups of records to COPY text, most of it at C speed, where nothing in them needs a second look."""

from ingestion.groups.compiling import Encoded, EncodeGroup, compile_groups

__all__ = ["EncodeGroup", "Encoded", "compile_groups"]
