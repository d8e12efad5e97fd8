"""What a trained network tells about a sequence: properties, embeddings, attention maps."""
