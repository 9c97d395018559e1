"""Releases: manifest, gate, staging and sealing, and the store that holds them."""
