"""Contacts, residue features and pair features of molecular dynamics trajectories."""
