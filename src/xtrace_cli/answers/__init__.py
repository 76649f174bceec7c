"""What a search found, made fit to be read: sources, excerpts, highlights, citations."""
