"""Encoders, the two towers built on them, and the losses they learn by."""
