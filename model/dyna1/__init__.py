"""Dyna-1: which residues of a protein exchange on the micro- to millisecond time scale.

Source: Wayment-Steele, El Nesr et al., Nature 2026 (doi 10.1038/s41586-026-10989-4).
"""
