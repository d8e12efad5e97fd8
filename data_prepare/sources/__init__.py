"""Raw data sources: one reader per source, which lists its entries and opens them one at a time."""
