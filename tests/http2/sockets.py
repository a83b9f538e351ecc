"""WebSockets through the gateway: sockets.py HOST:PORT WHAT. Ends with 0 if all is as it should be.

Over HTTP/1.1 by the library `websockets`, over HTTP/2 (RFC 8441) by `h2`, with frames of its own.
"""

import asyncio
import socket
import struct
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings
import websockets

ADDRESS, WHAT = sys.argv[1:]
MESSAGES = [b"one", b"", b"x" * 200, bytes(range(256)) * 4096]


def same(got, expected):
    assert got == expected, f"{str(got)[:200]} is not {str(expected)[:200]}"


async def http1():
    async with websockets.connect(f"ws://{ADDRESS}/ws", compression=None, max_size=None) as client:
        for message in MESSAGES:
            await client.send(message)
            same(await client.recv(), message)


class Stream:
    """A WebSocket on a stream of HTTP/2."""

    def __init__(self, path, protocol="websocket"):
        host, port = ADDRESS.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.http2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.http2.initiate_connection()
        self.send_out()
        self.received = bytearray()
        self.headers = None
        self.is_ended = False
        while not self.http2.remote_settings.enable_connect_protocol:
            self.take()
        self.id = self.http2.get_next_available_stream_id()
        self.http2.send_headers(
            self.id,
            [
                (":method", "CONNECT"),
                (":protocol", protocol),
                (":scheme", "http"),
                (":path", path),
                (":authority", ADDRESS),
                ("sec-websocket-version", "13"),
                ("cookie", "a=1"),
                ("cookie", "b=2"),
            ],
        )
        self.send_out()
        while self.headers is None:
            self.take()

    def send_out(self):
        self.socket.sendall(self.http2.data_to_send())

    def take(self):
        data = self.socket.recv(65536)
        assert data, "the connection ended"
        for event in self.http2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.headers = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.received += event.data
                self.http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                self.is_ended = True
        self.send_out()

    def write(self, data):
        while data:
            room = min(self.http2.local_flow_control_window(self.id), self.http2.max_outbound_frame_size)
            if room == 0:
                self.take()
                continue
            self.http2.send_data(self.id, data[:room])
            self.send_out()
            data = data[room:]

    def send(self, message, kind=2):
        length = len(message)
        if length < 126:
            head = struct.pack(">BB", 0x80 | kind, 0x80 | length)
        elif length < 65536:
            head = struct.pack(">BBH", 0x80 | kind, 0x80 | 126, length)
        else:
            head = struct.pack(">BBQ", 0x80 | kind, 0x80 | 127, length)
        # The mask is one that changes nothing.
        self.write(head + b"\0\0\0\0" + message)

    def read(self, count):
        while len(self.received) < count:
            assert not self.is_ended, "the stream ended"
            self.take()
        part = bytes(self.received[:count])
        del self.received[:count]
        return part

    def recv(self):
        message = b""
        while True:
            first, length = self.read(2)
            if length == 126:
                (length,) = struct.unpack(">H", self.read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.read(8))
            message += self.read(length)
            if first & 0x80:
                return first & 0x0F, message


async def http2():
    stream = Stream("/ws/of/two?x=1")
    same(stream.headers[":status"], "200")
    for name in ("sec-websocket-accept", "upgrade", "connection"):
        assert name not in stream.headers, stream.headers
    for message in MESSAGES:
        stream.send(message)
        same(stream.recv(), (2, message))
    # All at once, before any of it is read.
    for _ in range(20):
        stream.send(MESSAGES[-1][:100_000])
    for _ in range(20):
        same(stream.recv(), (2, MESSAGES[-1][:100_000]))
    stream.send(struct.pack(">H", 1000), kind=8)
    same(stream.recv()[0], 8)
    while not stream.is_ended:
        stream.take()


async def refused():
    stream = Stream("/elsewhere")
    same(stream.headers[":status"], "404")
    same(stream.headers["x-why"], "nothing is here")
    same(Stream("/secret/ws").headers[":status"], "401")
    same(Stream("/ws", protocol="connect-udp").headers[":status"], "501")


async def limited():
    """It is open for a while, busy as it is, and no longer."""
    for kind in ("http1", "http2"):
        try:
            if kind == "http1":
                async with websockets.connect(f"ws://{ADDRESS}/ws", compression=None) as client:
                    for _ in range(2000):
                        await client.send(b"on")
                        await client.recv()
                        await asyncio.sleep(0.01)
            else:
                stream = Stream("/ws")
                for _ in range(2000):
                    stream.send(b"on")
                    stream.recv()
                    await asyncio.sleep(0.01)
        except (websockets.ConnectionClosed, AssertionError, h2.exceptions.ProtocolError):
            continue
        raise SystemExit(f"{kind} was open for as long as it liked")


async def silent():
    """It ends when neither side has said anything for a while."""
    async with websockets.connect(f"ws://{ADDRESS}/ws", compression=None, ping_interval=None) as client:
        await client.send(b"on")
        same(await client.recv(), b"on")
        try:
            said = await asyncio.wait_for(client.recv(), 20)
        except websockets.ConnectionClosed:
            pass
        else:
            raise SystemExit(f"it said {said}")
    stream = Stream("/ws")
    stream.send(b"on")
    same(stream.recv(), (2, b"on"))
    while not stream.is_ended:
        stream.take()


async def held():
    async with websockets.connect(f"ws://{ADDRESS}/ws", compression=None) as client:
        await client.send(b"there")
        await client.recv()
        print("open", flush=True)
        sys.stdin.read()


asyncio.run({it.__name__: it for it in (http1, http2, refused, limited, silent, held)}[WHAT]())
