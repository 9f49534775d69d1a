"""request-transformer: change a request before it goes upstream. The catalog finds the plugin by `Handler` here."""

from headgate.plugins.request_transformer.handler import Handler

__all__ = ["Handler"]
