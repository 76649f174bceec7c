"""`xtrace shell`: runs commands without the prefix, and keeps open what they opened."""
