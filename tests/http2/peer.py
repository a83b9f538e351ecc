"""A peer that speaks HTTP/2 frame by frame, written by hyperframe and hpack, and what may become of what it says."""

import socket
import struct

from hpack import Decoder, Encoder
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame

PATIENCE = 10
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PROTOCOL, FLOW_CONTROL, STREAM_CLOSED, FRAME_SIZE, REFUSED, COMPRESSION = 1, 3, 5, 6, 7, 9


class Peer:
    """A connection on which anything may be sent."""

    def __init__(self, address, preface=PREFACE, settings=None):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.encoder, self.decoder = Encoder(), Decoder()
        self.rest = b""
        self.socket.sendall(preface)
        if settings is not None:
            self.send(SettingsFrame(0, settings=settings))
            # What it allows is known before anything else is sent.
            self.until(lambda it: isinstance(it, SettingsFrame) and "ACK" not in it.flags)
            self.send(SettingsFrame(0, flags=["ACK"]))
            self.until(lambda it: isinstance(it, SettingsFrame) and "ACK" in it.flags)

    def send(self, *frames):
        """Frames, or bytes in place of some. Who has been told to go away need not listen."""
        try:
            self.socket.sendall(b"".join(it if isinstance(it, bytes) else it.serialize() for it in frames))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def next(self):
        """The next frame; None at the end."""
        while True:
            if len(self.rest) >= 9:
                frame, length = Frame.parse_frame_header(memoryview(self.rest[:9]))
                if len(self.rest) >= 9 + length:
                    frame.parse_body(memoryview(self.rest[9 : 9 + length]))
                    self.rest = self.rest[9 + length :]
                    if isinstance(frame, HeadersFrame):
                        frame.fields = dict(self.decoder.decode(frame.data, raw=True))
                    return frame
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not more:
                return None
            self.rest += more

    def until(self, is_it):
        while (frame := self.next()) is not None:
            if is_it(frame):
                return frame
        raise AssertionError("the connection ended")

    def block(self, *changes, method="GET", path="/", without=()):
        fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a.example")]
        fields = [it for it in fields if it[0] not in without]
        return self.encoder.encode(fields + list(changes))

    def headers(self, stream=1, flags=("END_STREAM", "END_HEADERS"), data=None, **more):
        block = self.block(**more) if data is None else data
        return HeadersFrame(stream, data=block, flags=list(flags))


def ends_connection(peer, *codes):
    """It is told to go away for one of these reasons, and cut off. The framework's library says for some of them no
    more than that the protocol was broken."""
    error = None
    while (frame := peer.next()) is not None:
        if isinstance(frame, GoAwayFrame):
            error = frame.error_code
    assert error in (*codes, PROTOCOL), f"the connection ended with {error}, and not {codes}"


def ends_stream(peer, *codes, stream=1):
    """The stream ends for one of these reasons, or with an answer that says what is wrong, and others go on; or the
    connection ends for it, as it may (RFC 9113 section 5.4)."""
    while True:
        frame = peer.next()
        assert frame is not None, "the connection ended"
        if isinstance(frame, GoAwayFrame):
            assert frame.error_code in codes, f"the connection ended with {frame.error_code}, and not {codes}"
            return
        if frame.stream_id != stream:
            continue
        if isinstance(frame, RstStreamFrame):
            assert frame.error_code in codes, f"the stream ended with {frame.error_code}, and not {codes}"
            break
        if isinstance(frame, HeadersFrame):
            status = frame.fields[b":status"]
            assert status == b"400", f"it was answered with {status}"
            break
    serves(peer, stream + 100)


def serves(peer, stream=1):
    """A request is answered."""
    peer.send(peer.headers(stream))
    is_answered(peer, stream)


def is_answered(peer, stream=1):
    frame = peer.until(lambda it: it.stream_id == stream)
    assert isinstance(frame, HeadersFrame), f"no answer but {frame}"
    status = frame.fields[b":status"]
    assert status == b"200", f"it was answered with {status}"


def raw(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
