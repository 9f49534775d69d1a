"""The exchange in memory, the PDK's protocol class and the native stub have the same members."""

import ast
from pathlib import Path

import pytest

import headgate
from headgate.pdk import _exchange
from headgate.testing import MemoryExchange, Request
from headgate.testing.exchange import normalized_path

STUB = Path(headgate.__file__).parent / "_engine.pyi"


def members(path: Path, name: str) -> dict[str, str]:
    """Return member name to signature, docstrings aside."""
    [class_] = [
        node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef) and node.name == name
    ]
    found = {}
    for node in class_.body:
        if isinstance(node, ast.FunctionDef):
            kind = "property" if node.decorator_list else "method"
            returns = ast.unparse(node.returns) if node.returns else ""
            found[node.name] = f"{kind} ({ast.unparse(node.args)}) -> {returns}"
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = ast.unparse(node.annotation)
    return found


def test_the_protocol_class_is_the_native_contract() -> None:
    assert members(Path(_exchange.__file__), "Exchange") == members(STUB, "Exchange")


def test_the_exchange_in_memory_has_every_member() -> None:
    exchange = MemoryExchange(Request(), None, None, None)
    assert [name for name in members(STUB, "Exchange") if not hasattr(exchange, name)] == []


def test_paths_are_normalised_as_documented() -> None:
    examples = {
        "/t/Abc%20123%C3%B8%2f/parent/..//test/./": "/t/Abc 123ø%2F/test/",
        "/t/x/../y/.": "/t/y/",
        "": "",
        "/": "/",
        "//": "/",
        "/..": "/",
        "/a/%2e%2e/b": "/b",
        "/a/..": "/",
    }
    assert {path: normalized_path(path) for path in examples} == examples


def test_header_values_cannot_split_a_message_and_names_must_be_tokens() -> None:
    exchange = MemoryExchange(Request(), None, None, None)
    exchange.set_response_header("X-A", ["a\r\nSet-Cookie: b"])
    assert exchange.get_response_header("x-a") == "a%0D%0ASet-Cookie: b"
    with pytest.raises(ValueError, match="invalid header name"):
        exchange.add_request_header("X A", "1")
