"""The service's half of each scheme: what anybody can do with ciphertexts and public data, without any secret."""
