"""What can go wrong with weights: one tree, each message saying what, where and what to do."""


class WeightsError(Exception):
    """The weights cannot be had."""

    is_passing = False
    """Whether the same attempt may succeed later without anybody mending anything."""


class SourceError(WeightsError):
    """A source or setting is written wrongly."""


class NotThereError(WeightsError):
    """The source holds no such repository, revision, bucket, file or folder."""


class AccessError(WeightsError):
    """The source refuses our credentials, or asks for some."""


class OfflineError(WeightsError):
    """Offline mode, and the cache does not hold what is needed."""


class UnsafeError(WeightsError):
    """Only weights that run code when loaded, or files that may not be fetched."""


class IncompleteError(WeightsError):
    """Files are missing or cut short in a folder or repository."""


class WrongBytesError(WeightsError):
    """A file's hash or size is not what is on record."""


class DiskFullError(WeightsError):
    """No room for the weights."""


class TransferError(WeightsError):
    """The network or the source failed, for as often and as long as we may try."""

    is_passing = True


class LateError(WeightsError):
    """A volume, or another process's fetch, did not come in time."""

    is_passing = True
