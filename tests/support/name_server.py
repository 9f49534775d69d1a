"""A DNS server on a real port, over UDP and TCP, that answers from a table and misbehaves when told to.

Not a mock: the engine's own client asks it. A test changes `records` and `manners` at any time, and waits for questions
by count instead of sleeping.
"""

import socket
import struct
import threading
from enum import Enum
from typing import Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

_DEADLINE_S = 10.0


class Manner(Enum):
    """How a name is answered over UDP; TCP always tells the truth."""

    TRUTH = "truth"
    SILENCE = "silence"
    TRUNCATED = "truncated"
    LIE_FIRST = "lie first"
    FAILURE = "server failure"
    GARBAGE = "garbage"


class NameServer:
    """The server; a context manager."""

    def __init__(self) -> None:
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        # (name, type) to record data as in a zone file
        self.records: dict[tuple[str, str], list[str]] = {}
        self.manners: dict[str, Manner] = {}
        self.ttl_s = 60
        self.lie = "127.0.0.99"
        self._asked: list[tuple[str, str, str]] = []
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._serve_udp, self._serve_tcp)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._tcp.shutdown(socket.SHUT_RDWR)
        self._tcp.close()
        # A datagram to itself wakes the thread that receives.
        self._udp.sendto(b"", ("127.0.0.1", self.port))
        for thread in self._threads:
            thread.join(_DEADLINE_S)
        self._udp.close()

    @property
    def address(self) -> str:
        """`ip:port`, for the setting."""
        return f"127.0.0.1:{self.port}"

    @property
    def questions(self) -> list[tuple[str, str, str]]:
        """Everything that was asked: name, record type and transport, in order."""
        with self._changed:
            return list(self._asked)

    def asked(self, name: str, record_type: str | None = None, transport: str | None = None) -> int:
        """Return how often a name was asked for."""
        with self._changed:
            return self._count(name, record_type, transport)

    def wait_until_asked(self, name: str, count: int, record_type: str | None = None) -> None:
        """Wait for the question with this number; TimeoutError when it does not come."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._count(name, record_type, None) >= count, _DEADLINE_S):
                raise TimeoutError(f"{name} was asked {self._count(name, record_type, None)} times, not {count}")

    def _count(self, name: str, record_type: str | None, transport: str | None) -> int:
        return sum(
            asked == name and record_type in (None, of_type) and transport in (None, over)
            for asked, of_type, over in self._asked
        )

    def _serve_udp(self) -> None:
        while True:
            data, peer = self._udp.recvfrom(4096)
            if not data:
                return
            for answer in self._answers(data, "udp"):
                self._udp.sendto(answer, peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                accepted, _ = self._tcp.accept()
            except OSError:
                return
            with accepted, accepted.makefile("rb") as reader:
                while prefix := reader.read(2):
                    data = reader.read(struct.unpack("!H", prefix)[0])
                    for answer in self._answers(data, "tcp"):
                        accepted.sendall(struct.pack("!H", len(answer)) + answer)

    def _answers(self, data: bytes, transport: str) -> list[bytes]:
        question = dns.message.from_wire(data)
        name = question.question[0].name.to_text(omit_final_dot=True)
        record_type = dns.rdatatype.to_text(question.question[0].rdtype)
        with self._changed:
            self._asked.append((name, record_type, transport))
            self._changed.notify_all()
        truth = self._truth(question, name, record_type)
        match self.manners.get(name, Manner.TRUTH) if transport == "udp" else Manner.TRUTH:
            case Manner.SILENCE:
                return []
            case Manner.TRUNCATED:
                cut = dns.message.make_response(question)
                cut.flags |= dns.flags.TC
                return [cut.to_wire()]
            case Manner.LIE_FIRST:
                forged = dns.message.make_response(question)
                forged.id = (question.id + 1) % 65536
                forged.answer.append(dns.rrset.from_text(question.question[0].name, 60, "IN", "A", self.lie))
                return [forged.to_wire(), truth.to_wire()]
            case Manner.FAILURE:
                failure = dns.message.make_response(question)
                failure.set_rcode(dns.rcode.SERVFAIL)
                return [failure.to_wire()]
            case Manner.GARBAGE:
                return [b"\x00" * 7, truth.to_wire()]
            case Manner.TRUTH:
                return [truth.to_wire()]

    def _truth(self, question: dns.message.Message, name: str, record_type: str) -> dns.message.Message:
        response = dns.message.make_response(question)
        response.flags |= dns.flags.RA
        found = self.records.get((name, record_type))
        if found:
            response.answer.append(
                dns.rrset.from_text_list(question.question[0].name, self.ttl_s, "IN", record_type, found)
            )
        else:
            # What makes "there is none" worth believing (RFC 2308).
            zone = "ns.test. admin.test. 1 60 60 60 60"
            response.authority.append(dns.rrset.from_text("test.", 60, "IN", "SOA", zone))
            if not any(known == name for known, _ in self.records):
                response.set_rcode(dns.rcode.NXDOMAIN)
        return response
