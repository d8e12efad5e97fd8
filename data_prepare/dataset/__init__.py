"""Training data: feature store, table, splits and loss weights."""
