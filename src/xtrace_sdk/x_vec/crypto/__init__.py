"""Cryptography without input or output: the content cipher, the homomorphic schemes, the key providers.

Paper references are given where they apply:

- Paillier, "Public-Key Cryptosystems Based on Composite Degree Residuosity Classes", EUROCRYPT 1999.
- Coron, Joux, Mandal, Naccache, Tibouchi, "Cryptanalysis of the RSA Subgroup Assumption from TCC 2005", PKC 2011.
- Groth, "Cryptography in Subgroups of Z_n^*", TCC 2005.
"""
