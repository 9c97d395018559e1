"""The FAISS index: build it for a catalog, search it, measure what it misses."""
