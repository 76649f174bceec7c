"""The public arithmetic of encrypted blocks: 1,024 vectors together, under module learning with errors.

Works modulo Q = q0 q1 in Z_Q[X]/(X^1024 + 1), rank 3. A block is A s + e + D1 m, a query a s' + e' + D2 m'. Their
product contains the Hamming distances of all vectors of the block, which only the client can read.

- Langlois, Stehlé, "Worst-case to average-case reductions for module lattices", Designs, Codes and
  Cryptography 75, 2015.
- Regev, "On lattices, learning with errors, random linear codes, and cryptography", Journal of the ACM 56, 2009.
- Alkim, Ducas, Pöppelmann, Schwabe, "Post-quantum key exchange: a new hope", USENIX Security 2016 (binomial errors).
- Henzinger, Hong, Corrigan-Gibbs, Meiklejohn, Vaikuntanathan, "One server for the price of two: simple and fast
  single-server private information retrieval", USENIX Security 2023 (hints).
"""
