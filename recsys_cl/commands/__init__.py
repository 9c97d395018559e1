"""Commands that have much to say, a file each; `cli.py` gathers them."""
