"""Framing of the link."""

import asyncio

import pytest

from headgate.cluster.frames import Ack, Nack, encode, read_body, up_decoder
from headgate.errors import ControlError


def reader_of(content: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    return reader


async def read_all(content: bytes, limit_bytes: int = 1000) -> list[object]:
    reader = reader_of(content)
    found = []
    while (body := await read_body(reader, limit_bytes)) is not None:
        found.append(up_decoder.decode(body))
    return found


def test_messages_survive_the_wire() -> None:
    messages: list[Ack | Nack] = [Ack(7), Nack(8, ["a: é", "b"])]
    assert asyncio.run(read_all(b"".join(encode(message) for message in messages))) == messages


def test_frame_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(ControlError, match="larger than the limit of 10"):
        asyncio.run(read_all((2**31).to_bytes(4, "big"), limit_bytes=10))


@pytest.mark.parametrize("cut", [2, 6])
def test_link_that_closes_inside_a_frame_is_an_error(cut: int) -> None:
    with pytest.raises(ControlError, match="closed inside a frame"):
        asyncio.run(read_all(encode(Nack(8, ["a"]))[:cut]))
