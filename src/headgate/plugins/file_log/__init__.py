"""file-log: append one JSON record per request to a file. The catalog finds the plugin by `Handler` here."""

from headgate.plugins.file_log.handler import Handler

__all__ = ["Handler"]
