"""Metrics, baselines and analyses on test data."""
