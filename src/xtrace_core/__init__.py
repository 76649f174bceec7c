"""What the client and the server share: formats, filters and arithmetic. Holds no secret, does no input or output."""
