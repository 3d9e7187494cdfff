"""What a user, a file or a cluster can cause. Each message says what happened, with which value, and what to do."""


class UserError(Exception):
    """The user's input is wrong: one line, exit status 2."""


class ConfigError(UserError):
    """A setting is unknown, out of range, or does not fit another one."""


class CorpusError(UserError):
    """A corpus, or a file that should become one, is not what it must be."""


class CheckpointError(UserError):
    """A checkpoint, bundle or run directory cannot be used as asked."""


class StorageError(UserError):
    """A path or URI cannot be reached, read or written."""


class ClusterError(UserError):
    """A Ray cluster cannot be reached, or does not take what is asked of it."""


class TrainingError(Exception):
    """Work that had begun cannot go on: exit status 1."""
