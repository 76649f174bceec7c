"""Presents search results: sources, excerpts, highlights, citations."""
