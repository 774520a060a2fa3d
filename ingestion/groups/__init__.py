"""Groups of records to COPY text, most of it at C speed, where nothing in them needs a second look."""

from ingestion.groups.compiling import Encoded, EncodeGroup, compile_groups
from ingestion.groups.texts import EncodeTexts, compile_texts

__all__ = ["EncodeGroup", "EncodeTexts", "Encoded", "compile_groups", "compile_texts"]
