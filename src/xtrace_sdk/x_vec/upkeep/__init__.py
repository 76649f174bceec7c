"""Rotation, verification and audit of what is stored."""
