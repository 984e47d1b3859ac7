"""The two errors a user may meet. The command line prints their message as one line and exits with
`status`."""


class DiffgeoError(RuntimeError):
    """Something failed while running: a corrupt file, a NaN loss, a full disk. Exit status 1."""

    status = 1


class UsageError(DiffgeoError, ValueError):
    """The request cannot be met as written; the message says what to write instead. Exit status
    2."""

    status = 2
