"""rate-limiting: limit the number of requests per period. The catalog finds the plugin by `Handler` here."""

from headgate.plugins.rate_limiting.handler import Handler

__all__ = ["Handler"]
