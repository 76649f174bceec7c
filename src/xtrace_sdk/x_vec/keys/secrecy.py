"""`Secretive`, the base of the classes that hold secrets, under the name that key providers import."""

from xtrace_core.secrecy import Secretive

__all__ = ["Secretive"]
