"""Raw structures and trajectories in, training data out."""
