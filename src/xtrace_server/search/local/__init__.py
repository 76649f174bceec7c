"""Computes searches in the threads of this process."""
