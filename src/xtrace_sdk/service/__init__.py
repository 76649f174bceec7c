"""The client of the HTTP contract. It knows nothing of cryptography."""
