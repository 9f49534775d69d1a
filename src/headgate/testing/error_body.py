"""The gateway's error body in the form that `Accept` asks for (PDK reference 8.4, 8.6), as the engine answers it."""

import re

MESSAGES = {
    400: "Bad request",
    401: "Unauthorized",
    402: "Payment required",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    407: "Proxy authentication required",
    408: "Request timeout",
    409: "Conflict",
    410: "Gone",
    411: "Length required",
    412: "Precondition failed",
    413: "Payload too large",
    414: "URI too long",
    415: "Unsupported media type",
    416: "Range not satisfiable",
    417: "Expectation failed",
    418: "I'm a teapot",
    421: "Misdirected request",
    422: "Unprocessable entity",
    423: "Locked",
    424: "Failed dependency",
    425: "Too early",
    426: "Upgrade required",
    428: "Precondition required",
    429: "Too many requests",
    431: "Request header fields too large",
    451: "Unavailable for legal reasons",
    494: "Request header or cookie too large",
    500: "An unexpected error occurred",
    501: "Not implemented",
    502: "An invalid response was received from the upstream server",
    503: "The upstream server is currently unavailable",
    504: "The upstream server is timing out",
    505: "HTTP version not supported",
    506: "Variant also negotiates",
    507: "Insufficient storage",
    508: "Loop detected",
    510: "Not extended",
    511: "Network authentication required",
}
"""Default texts; equal to the engine's `ERROR_MESSAGES`."""

_JSON = "application/json; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_PLAIN = "text/plain; charset=utf-8"
_XML = "application/xml; charset=utf-8"

_TYPES = {
    "*/*": _JSON,
    "application/*": _JSON,
    "application/json": _JSON,
    "text/*": _PLAIN,
    "text/plain": _PLAIN,
    "text/html": _HTML,
    "application/xml": _XML,
}

_LAYOUTS = {
    _JSON: '{{\n  "message":"{message}",\n  "request_id":"{id}"\n}}',
    _HTML: (
        '<!doctype html>\n<html>\n  <head>\n    <meta charset="utf-8">\n    <title>Error</title>\n  </head>\n  <body>\n'
        "    <h1>Error</h1>\n    <p>{message}.</p>\n    <p>request_id: {id}</p>\n  </body>\n</html>\n"
    ),
    _PLAIN: "{message}\nrequest_id: {id}\n",
    _XML: (
        '<?xml version="1.0" encoding="UTF-8"?>\n<error>\n  <message>{message}</message>\n'
        "  <requestid>{id}</requestid>\n</error>\n"
    ),
}

_ENTRY = re.compile(r"([\w.+*-]+/[\w.+*-]+)\s*(?:;(.*))?$")
_QUALITY = re.compile(r"(?:^|;)\s*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*(?:;|$)")


def default_message(status: int) -> str:
    """Return the text of an error status without a message of its own."""
    return MESSAGES.get(status, f"The upstream server responded with {status}")


def error_body(message: str, request_id: str, accept: list[str]) -> tuple[str, bytes]:
    """Return (content type, body)."""
    content_type = _accepted(accept)
    return content_type, _LAYOUTS[content_type].format(message=message, id=request_id).encode(
        "utf-8", "surrogateescape"
    )


def _accepted(accept: list[str]) -> str:
    best, best_quality = "*/*", -1.0
    for entry in ",".join(accept).split(","):
        found = _ENTRY.match(entry.strip().lower())
        if found is None:
            continue
        quality = _QUALITY.search(found.group(2) or "")
        weight = float(quality.group(1)) if quality else 1.0
        if weight > best_quality:
            best, best_quality = found.group(1), weight
    return _TYPES.get(best, _JSON)
