"""How a handler ends early: `kong.response.exit` raises `Exit`, and only the plugin runner catches it."""


class Exit(BaseException):
    """Unwinds a handler after an answer was recorded.

    A `BaseException`, so that neither a forgotten `return` nor a broad `except Exception` lets a refused request go on.
    """
