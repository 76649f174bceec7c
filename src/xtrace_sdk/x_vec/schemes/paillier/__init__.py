"""The schemes `paillier` and `paillier_lookup`.

- Paillier, "Public-Key Cryptosystems Based on Composite Degree Residuosity Classes", EUROCRYPT 1999.
- Coron, Joux, Mandal, Naccache, Tibouchi, "Cryptanalysis of the RSA Subgroup Assumption from TCC 2005", PKC 2011.
- Groth, "Cryptography in Subgroups of Z_n^*", TCC 2005.
"""
