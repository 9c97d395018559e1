"""What a training step learns from: positive pairs drawn from users' rows, and negatives from the catalog."""
