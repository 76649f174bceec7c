"""The service's half of each scheme: what anyone can do with ciphertexts and public data, without any secret."""
