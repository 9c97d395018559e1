"""From pairs to embeddings: the training loop, encoding, and the towers as files."""
