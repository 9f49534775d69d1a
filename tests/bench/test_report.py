"""Reading wrk's report, and ratios from it."""

import pytest

from bench.load import parse_wrk
from bench.report import Ratio, Row, table

REPORT = """Running 5s test @ http://127.0.0.1:8000/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.02ms  200.00us   9.00ms   90.00%
    Req/Sec    62.00k     1.00k   65.00k    70.00%
  Latency Distribution
     50%  980.00us
     75%    1.10ms
     90%    1.30ms
     99%    2.26ms
  310000 requests in 5.00s, 100.00MB read
Requests/sec:  62000.50
Transfer/sec:     20.00MB
"""


def test_rate_and_latencies_are_read_in_one_unit() -> None:
    sample = parse_wrk(REPORT)
    assert sample.requests_per_s == 62000.5
    assert sample.latency_p50_ms == pytest.approx(0.98)
    assert sample.latency_p99_ms == 2.26
    assert sample.failures == 0


def test_refused_and_broken_requests_count_as_failures() -> None:
    text = REPORT + "  Socket errors: connect 1, read 2, write 0, timeout 4\n  Non-2xx or 3xx responses: 10\n"
    assert parse_wrk(text).failures == 17


def test_report_without_a_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="no rate"):
        parse_wrk("unable to connect")


def test_ratio_is_taken_round_by_round() -> None:
    ratio = Ratio.of([50.0, 60.0, 80.0], [100.0, 100.0, 100.0])
    assert (ratio.middle, ratio.lowest, ratio.highest) == (0.6, 0.5, 0.8)
    assert str(ratio) == "0.60 (0.50-0.80)"


def test_table_has_a_line_for_each_row() -> None:
    text = table([Row("plain", "1/s", Ratio(1.0, 1.0, 1.0), "nginx")])
    assert text.splitlines()[-1].startswith("| plain | 1/s | 1.00 (1.00-1.00) | nginx |")
