"""Contexts and contents of other clients of the wire format."""
