"""Features of a trajectory, accumulated over its frames."""
