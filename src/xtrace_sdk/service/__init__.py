"""The client of the HTTP contract. It does not use cryptography."""
