"""One reader per raw source: which entries there are, and how one is opened."""

from data_prepare.sources.entry import Entry
from data_prepare.sources.manifest import read_manifest

__all__ = ["Entry", "read_manifest"]
