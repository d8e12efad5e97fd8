"""From raw data to a training set: prepare, merge and check."""
