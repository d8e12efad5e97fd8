"""The networks, their training and their uses."""
