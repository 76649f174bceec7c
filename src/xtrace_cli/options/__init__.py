"""Settings that several commands share: where the service is, and which keys to use."""
