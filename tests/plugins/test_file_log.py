"""file-log: one JSON record per request."""

import json
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import SchemaViolation
from headgate.plugins.file_log import writer
from headgate.plugins.file_log.handler import Config, Handler, encode
from headgate.schema import validate
from tests.plugins.scene import Scene


def test_a_request_leaves_one_record(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    for target in ("/one", "/two?q=1"):
        Scene(Handler, {"path": str(path)}, target=target).log()
    writer.flush_all()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["request"]["uri"] for record in records] == ["/one", "/two?q=1"]
    assert records[1]["request"]["querystring"] == {"q": "1"}
    writer.keep_only(set())


def test_files_that_are_no_longer_configured_are_let_go(tmp_path: Path) -> None:
    path = str(tmp_path / "access.log")
    handler = Handler()
    Scene(Handler, {"path": path}, handler=handler).log()
    handler.configure([validate(Config, {"path": path})])
    assert path in writer._writers
    handler.configure(None)
    assert path not in writer._writers


@pytest.mark.parametrize(
    ("record", "line"),
    [
        ({"a": [1, 1.5, None, True]}, b'{"a":[1,1.5,null,true]}\n'),
        ({"bytes": b"\xff"}, '{"bytes":"\ufffd"}\n'.encode()),
        ({"header": "\udcff"}, b'{"header":"\\udcff"}\n'),
        ({"big": 2**70}, b'{"big":1180591620717411303424}\n'),
        ({1: "number as key"}, b'{"1":"number as key"}\n'),
    ],
)
def test_every_record_can_be_encoded(record: dict[Any, Any], line: bytes) -> None:
    assert encode(record) == line


@pytest.mark.parametrize(
    ("config", "faults"),
    [
        ({}, {"path": "required field missing"}),
        ({"path": "/tmp/a*b"}, {"path": "not a valid filename"}),
    ],
)
def test_a_path_must_be_a_file_name(config: dict[str, Any], faults: dict[str, str]) -> None:
    with pytest.raises(SchemaViolation) as caught:
        validate(Config, config)
    assert caught.value.fields == faults


def test_fields_of_the_record_come_from_lua_code(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    fields = {"added": "return kong.request.get_path() .. '!'", "route": "return nil", "deep.er": "return { 1, 2 }"}
    Scene(Handler, {"path": str(path), "custom_fields_by_lua": fields}, target="/one").log()
    writer.flush_all()
    record = json.loads(path.read_text())
    assert (record["added"], record["deep"]) == ("/one!", {"er": [1, 2]})
    assert "route" not in record
    writer.keep_only(set())


def test_lua_code_that_does_not_compile_is_refused() -> None:
    with pytest.raises(SchemaViolation) as caught:
        validate(Config, {"path": "/tmp/a", "custom_fields_by_lua": {"a": "return ("}})
    assert "Error parsing function: " in str(caught.value.fields["custom_fields_by_lua"])
