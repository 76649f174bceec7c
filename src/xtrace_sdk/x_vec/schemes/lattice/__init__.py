"""The scheme `lattice`: encrypted records that clients open and compare.

- Harkins, "Synthetic Initialization Vector (SIV) Authenticated Encryption Using AES", RFC 5297, 2008.
- Rogaway, Shrimpton, "A Provable-Security Treatment of the Key-Wrap Problem", EUROCRYPT 2006.
"""
