"""Zero-shot scores of mutations and their comparison with measurements."""
