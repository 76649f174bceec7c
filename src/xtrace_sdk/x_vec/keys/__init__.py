"""Key providers, and the sealing of a context's secrets under their keys."""
