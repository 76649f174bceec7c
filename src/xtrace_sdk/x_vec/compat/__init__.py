"""Contexts and contents that other clients of the wire format made."""
