"""gRPC status of an HTTP status, and its name (PDK reference 8.5), as the engine answers them."""

_CODES = {200: 0, 400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 429: 8, 499: 1, 500: 13, 501: 12, 503: 14, 504: 4}
_OF_CLASS = {5: 13, 4: 3, 2: 0}
_UNKNOWN = 2

_NAMES = (
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
)


def grpc_status(status: int) -> int:
    """Return the gRPC status of an HTTP status."""
    return _CODES.get(status, _OF_CLASS.get(status // 100, _UNKNOWN))


def grpc_name(status: int) -> str:
    """Return the name of the gRPC status of an HTTP status."""
    return _NAMES[grpc_status(status)]
