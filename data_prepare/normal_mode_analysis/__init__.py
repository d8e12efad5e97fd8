"""Residue and pair features of elastic network normal modes."""
