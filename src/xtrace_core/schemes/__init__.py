"""The service's half of each scheme: what can be done with ciphertexts and public data, without secrets."""
