"""request-termination: what is answered, and when."""

import json
import os
from typing import Any

import pytest

from headgate.errors import SchemaViolation
from headgate.plugins.request_termination import Config, Handler
from headgate.schema import validate
from tests.plugins.scene import Scene


def play(config: dict[str, Any], **request: Any) -> Scene:
    return Scene(Handler, config, **request).access()


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "Unauthorized"),
        (404, "Not found"),
        (405, "Method not allowed"),
        (500, "An unexpected error occurred"),
        (502, "Bad Gateway"),
        (503, "Service unavailable"),
    ],
)
def test_a_status_has_its_default_message(status: int, message: str) -> None:
    played = play({"status_code": status})
    assert played.status == status
    assert json.loads(played.answer_body) == {"message": message}


def test_another_status_has_no_body() -> None:
    played = play({"status_code": 418})
    assert played.status == 418
    assert played.answer_body == b""


def test_the_message_is_answered_as_json() -> None:
    played = play({"message": "closed"})
    assert (played.status, json.loads(played.answer_body)) == (503, {"message": "closed"})


def test_the_body_is_answered_as_it_is() -> None:
    played = play({"status_code": 200, "body": "<p>closed</p>", "content_type": "text/html"})
    assert (played.status, played.answer_body) == (200, b"<p>closed</p>")
    assert played.answered("Content-Type") == ["text/html"]


def test_a_body_without_content_type_is_called_json() -> None:
    assert play({"body": "{}"}).answered("Content-Type") == ["application/json; charset=utf-8"]


@pytest.mark.parametrize(
    ("request_parts", "is_answered"),
    [
        ({}, False),
        ({"headers": [("X-Stop", "1")]}, True),
        ({"headers": [("X-Stop", "")]}, True),
        ({"target": "/?x-stop"}, True),
        ({"target": "/?x-stop=1"}, True),
    ],
)
def test_a_trigger_decides_whether_to_answer(request_parts: dict[str, Any], is_answered: bool) -> None:
    assert (play({"trigger": "x-stop"}, **request_parts).answer is not None) is is_answered


def test_echo_shows_the_request() -> None:
    played = play(
        {"echo": True, "status_code": 404},
        method="POST",
        target="/a/b?x=1&y",
        headers=[("Host", "example.com"), ("Content-Type", "application/json")],
        body=b'{"k":[1]}',
        service={"id": "s1"},
    )
    echo = json.loads(played.answer_body)
    assert played.status == 404
    assert echo["message"] == "Not found"
    assert echo["kong"]["worker_pid"] == os.getpid()
    assert set(echo["kong"]) == {"node_id", "worker_pid", "hostname"}
    assert echo["request"]["method"] == "POST"
    assert echo["request"]["path"] == "/a/b"
    assert echo["request"]["query"] == {"x": "1", "y": True}
    assert echo["request"]["body"] == {"k": [1]}
    assert echo["request"]["raw_body"] == '{"k":[1]}'
    assert echo["request"]["headers"]["content-type"] == "application/json"
    assert echo["request"]["uri_captures"] == {"unnamed": [], "named": {}}
    assert echo["matched_service"]["id"] == "s1"


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"message": "m", "body": "b"}, "message cannot be used with content_type or body"),
        ({"message": "m", "content_type": "t"}, "message cannot be used with content_type or body"),
        ({"content_type": "text/plain"}, "content_type requires a body"),
        ({"echo": True, "content_type": "t", "body": "b"}, "echo cannot be used with content_type and body"),
    ],
)
def test_contradicting_fields_are_refused(config: dict[str, Any], fault: str) -> None:
    with pytest.raises(SchemaViolation) as caught:
        validate(Config, config)
    assert fault in str(caught.value.fields)
