"""The image variant: what differs from items known by their row alone, that is features, augmentation and encoder."""
