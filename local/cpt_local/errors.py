"""What can go wrong, each with a text that says what to do.

LocalError                  exit 1
├── UnsuitableError         exit 3: this machine cannot hold the cluster; nothing was changed
├── MissingClusterError     there is no such cluster, or it is not healthy
├── BusyError               another command works on the same cluster
├── CommandError            a program ended with an error
└── NotReadyError           something did not come up in time
"""

from __future__ import annotations


class LocalError(Exception):
    """The command failed; the text is for the user."""

    exit_code = 1


class UnsuitableError(LocalError):
    """This machine cannot hold the cluster; nothing was changed."""

    exit_code = 3


class MissingClusterError(LocalError):
    """There is no such cluster, or it is not healthy."""


class BusyError(LocalError):
    """Another command works on the same cluster."""


class CommandError(LocalError):
    """A program ended with an error."""


class NotReadyError(LocalError):
    """Something did not come up in time."""
