"""Training: the loop, checkpoints, log and processes of all networks; data, loss and schedule of SeqDance."""
