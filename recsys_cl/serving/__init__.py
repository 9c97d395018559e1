"""Answers from a release: lookup and export."""
