"""Where programs find the client of the service, and the adapters for frameworks."""
