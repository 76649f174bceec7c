"""Warnings of the SDK: what a caller should know although the call went on. Each is a `UserWarning`."""


class SharedModules(UserWarning):
    """Another installed distribution owns the same modules; the message says which one's are imported."""


class NothingStored(UserWarning):
    """A search found nothing because nothing is stored under its context in the knowledge base."""


class PassedOver(UserWarning):
    """A load passed over inputs that cannot be loaded; `LoadSummary.passed_over` names them."""


class NotUndone(UserWarning):
    """What a load replaced cannot come back: `DataLoader.undo` deleted the rest."""
