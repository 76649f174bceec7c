"""The scheme `lattice`: encrypted records that clients open and compare, and blocks of them for large searches.

- Harkins, "Synthetic Initialization Vector (SIV) Authenticated Encryption Using AES", RFC 5297, 2008.
- Rogaway, Shrimpton, "A Provable-Security Treatment of the Key-Wrap Problem", EUROCRYPT 2006.
- Albrecht, Player, Scott, "On the concrete hardness of Learning with Errors", Journal of Mathematical
  Cryptology 9, 2015.
"""
