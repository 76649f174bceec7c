"""`xtrace shell`: commands without the prefix, with what they open kept open."""
