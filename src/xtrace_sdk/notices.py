"""Warnings of the SDK: what a caller should know although the call continued. Each is a `UserWarning`."""


class SharedModules(UserWarning):
    """Another installed distribution owns the same modules; the message says whose are imported."""


class NothingStored(UserWarning):
    """A search found nothing because nothing is stored under its context in the knowledge base."""


class PassedOver(UserWarning):
    """A load skipped inputs that cannot be loaded; `LoadSummary.passed_over` lists them."""


class NotSealed(UserWarning):
    """A load stored everything, but could not seal it into blocks."""


class SharedIndexRejected(UserWarning):
    """The shared index on the service could not be used, so a local index is built from all contents."""


class NotUndone(UserWarning):
    """`DataLoader.undo` deleted what a load inserted, but cannot restore what it replaced."""
