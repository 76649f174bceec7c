"""The search engine: which rows a search is over, what it keeps in memory, and who computes. Knows no HTTP."""
