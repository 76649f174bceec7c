"""What the command line itself refuses; the errors of the client come from `xtrace_sdk.errors`."""

from xtrace_sdk.errors import XTraceError


class WrongUse(XTraceError):
    """The command was called in a way that cannot work; the exit status is 2."""


class NotConfirmed(XTraceError):
    """The person at the terminal said no; nothing was changed."""


class ServerDidNotStart(XTraceError):
    """The server process ended, or did not answer in time."""


class WrongSettings(XTraceError):
    """A server with these settings would not start, or not work; the report says why."""


class UnusableData(XTraceError):
    """The server's data folder cannot be used as it is."""


class UnusableArchive(XTraceError):
    """The file is not an archive of XTrace, or a damaged one."""


class BadChunks(XTraceError):
    """A knowledge base holds chunks that cannot be used."""


class UntrustedFolder(XTraceError):
    """A file of the working folder would decide where keys from elsewhere go; nothing was sent."""


class UnknownKnowledgeBase(XTraceError):
    """The organisation does not have a knowledge base of this name."""


class UnknownRecords(XTraceError):
    """A knowledge base does not have some of the records that were named."""


class NoKeyring(XTraceError):
    """The system does not have a keyring that keeps a passphrase."""


class SomethingIsWrong(XTraceError):
    """`xtrace doctor` found something that does not work."""


class UnusableContext(XTraceError):
    """The context cannot be restored by someone else."""
