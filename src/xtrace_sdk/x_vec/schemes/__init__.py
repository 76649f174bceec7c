"""The client's half of each scheme: encrypting vectors and queries, reading distances."""
