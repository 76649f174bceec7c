"""The search engine: selects the rows of a search, caches them, and has them computed. Independent of HTTP."""
