"""Frames of a trajectory: reading, unwrapping, superposition and neighbour search."""
