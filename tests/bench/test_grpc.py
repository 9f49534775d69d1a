"""Reading h2load's report."""

import pytest

from bench.grpc import parse_h2load

REPORT = """finished in 1.00s, 3039.50 req/s, 282.38KB/s
requests: 3039 total, 3103 started, 3039 done, 3036 succeeded, 3 failed, 1 errored, 0 timeout
status codes: 3030 2xx, 0 3xx, 4 4xx, 5 5xx
"""


def test_rate_and_failures_are_read() -> None:
    sample = parse_h2load(REPORT)
    assert sample.calls_per_s == 3039.5
    assert sample.failures == 3 + 1 + 4 + 5


def test_a_report_without_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="no rate"):
        parse_h2load("could not connect")
