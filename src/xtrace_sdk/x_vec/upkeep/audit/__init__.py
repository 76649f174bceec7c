"""The known attacks on Paillier keys, tried with what everyone can see: public keys, ciphertexts, nonces.

`key_audit` is the whole of it; the other modules are the attacks. None of them needs a secret, and none tells one.
"""
