"""How a run is cut into parts that several workers advance at once: by pages, time, parents or files.

A share is what one part covers, as JSON; the shares of a run together are everything its source has.
"""

from ingestion.parts.files import FileGroups
from ingestion.parts.parents import ParentGroups
from ingestion.parts.protocols import Parts, Periods
from ingestion.parts.ranges import PageRanges
from ingestion.parts.windows import Windows

__all__ = ["FileGroups", "PageRanges", "ParentGroups", "Parts", "Periods", "Windows"]
