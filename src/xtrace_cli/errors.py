"""The command line's own errors; the client's are in `xtrace_sdk.errors`."""

from xtrace_sdk.errors import XTraceError


class WrongUse(XTraceError):
    """The command was used incorrectly; the exit status is 2."""


class NotConfirmed(XTraceError):
    """The user did not confirm; nothing was changed."""


class ServerDidNotStart(XTraceError):
    """The server process ended, or did not answer in time."""


class WrongSettings(XTraceError):
    """A server with these settings would not start or work; the report says why."""


class UnusableData(XTraceError):
    """The server's data folder cannot be used as it is."""


class UnusableArchive(XTraceError):
    """The file is not an XTrace archive, or is damaged."""


class BadChunks(XTraceError):
    """A knowledge base contains chunks that cannot be used."""


class BadBlocks(XTraceError):
    """A knowledge base has blocks that searches cannot use."""


class FaultyDatabase(XTraceError):
    """What a database stores contradicts itself."""


class DifferingIndex(XTraceError):
    """The local index differs from what the service has."""


class UntrustedFolder(XTraceError):
    """A file in the working folder would decide where keys from elsewhere are sent; nothing was sent."""


class UnknownKnowledgeBase(XTraceError):
    """The organisation does not have a knowledge base of this name."""


class UnknownRecords(XTraceError):
    """Some of the named records are not in the knowledge base."""


class NoKeyring(XTraceError):
    """The system does not have a keyring that can store a passphrase."""


class SomethingIsWrong(XTraceError):
    """`xtrace doctor` found something that does not work."""


class UnusableContext(XTraceError):
    """The context cannot be restored by someone else."""
