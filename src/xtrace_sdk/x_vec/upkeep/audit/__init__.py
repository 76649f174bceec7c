"""Tries the known attacks on Paillier keys with public information: public keys, ciphertexts, nonces.

`key_audit` runs the audit; the other modules are the attacks. None of them needs or reveals a secret.
"""
