"""What each piece of the contrastive core is worth: `python -m benchmarks.core` writes the tables beside this file."""
