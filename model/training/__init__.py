"""Training: data, loss, schedule, checkpoints and log."""
