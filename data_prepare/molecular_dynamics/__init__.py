"""Contacts and residue and pair features of molecular dynamics trajectories."""
