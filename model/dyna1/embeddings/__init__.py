"""Residue embeddings that Dyna-1 reads, and their cache."""
