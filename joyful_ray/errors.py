"""Errors that a user, a file or a cluster can cause. Each message says what happened, and what to do about it."""


class UserError(Exception):
    """The user's input is wrong: one line, exit status 2."""


class ConfigError(UserError):
    """A setting is unknown, out of range, or does not fit another one."""


class CorpusError(UserError):
    """A corpus, or a file to import, is damaged or does not have the expected content."""


class CheckpointError(UserError):
    """A checkpoint, bundle or run folder cannot be used as requested."""


class StorageError(UserError):
    """A path or URI cannot be reached, read or written."""


class ClusterError(UserError):
    """A Ray cluster cannot be reached, or refuses a request."""


class TrainingError(Exception):
    """Work that had started cannot continue: exit status 1."""
