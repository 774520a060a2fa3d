"""Files as sources: where they are, how records are written in them, which of them are still to be read."""

from ingestion.sources.files.csv_files import Csv
from ingestion.sources.files.disk import Disk
from ingestion.sources.files.entries import Entry, Place, Session
from ingestion.sources.files.excel import Excel
from ingestion.sources.files.formats import Block, Facts, Format
from ingestion.sources.files.ftp import Ftp
from ingestion.sources.files.json_files import Json
from ingestion.sources.files.limits import FileLimits
from ingestion.sources.files.ndjson import Ndjson
from ingestion.sources.files.s3 import S3
from ingestion.sources.files.sftp import Sftp
from ingestion.sources.files.source import Files
from ingestion.sources.files.web import Web
from ingestion.sources.files.xml_files import Xml

__all__ = [
    "S3",
    "Block",
    "Csv",
    "Disk",
    "Entry",
    "Excel",
    "Facts",
    "FileLimits",
    "Files",
    "Format",
    "Ftp",
    "Json",
    "Ndjson",
    "Place",
    "Session",
    "Sftp",
    "Web",
    "Xml",
]
