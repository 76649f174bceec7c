"""The search engine: ciphertexts in memory, multiplied off the event loop. Knows the storage, not HTTP."""
