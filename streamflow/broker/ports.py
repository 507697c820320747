"""Ports on loopback: free ones, whether one is taken, and whether Kafka answers on it."""

import socket
import struct
from contextlib import ExitStack

LOOPBACK = "127.0.0.1"

# Metadata request, version 1, no topics: size, api key, version, correlation id, client id, topics.
_METADATA = struct.pack(">ihhih10si", 24, 3, 1, 1, 10, b"streamflow", 0)


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on at this moment."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        # As Kafka does it: a port that is only in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


def answers(port: int, brokers: int = 1) -> bool:
    """Whether a Kafka answers a metadata request on this port and names so many brokers."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=5) as connection:
            connection.sendall(_METADATA)
            with connection.makefile("rb") as reply:
                header = reply.read(12)
    except OSError:
        return False
    if len(header) < 12:
        return False
    _size, _correlation, found = struct.unpack(">iii", header)
    return found >= brokers
