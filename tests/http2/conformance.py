"""What RFC 9113 and RFC 7541 have a server do about frames that are odd or wrong: conformance.py HOST:PORT.

Each case has a connection of its own. Names what is not as it should be, and ends with 0 if nothing is. A request for
/late is not answered.
"""

import struct
import sys

from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from peer import (
    COMPRESSION,
    FLOW_CONTROL,
    FRAME_SIZE,
    PREFACE,
    PROTOCOL,
    REFUSED,
    STREAM_CLOSED,
    Peer,
    ends_connection,
    ends_stream,
    is_answered,
    raw,
    serves,
)

ADDRESS = sys.argv[1]
LARGEST_WINDOW = 2**31 - 1
CASES = []


def case(section, settings=()):
    def add(function):
        CASES.append((section, function, dict(settings)))
        return function

    return add


def breaks(section, name, frames, *codes):
    """After these frames the connection ends."""

    def run(peer):
        peer.send(*frames(peer))
        ends_connection(peer, *codes)

    run.__name__ = name
    CASES.append((section, run, {}))


def fails(section, name, frames, *codes):
    """After these frames the stream ends."""

    def run(peer):
        peer.send(*frames(peer))
        ends_stream(peer, *codes)

    run.__name__ = name
    CASES.append((section, run, {}))


def passes(section, name, frames):
    """These frames do no harm."""

    def run(peer):
        peer.send(*frames(peer))
        serves(peer, 101)

    run.__name__ = name
    CASES.append((section, run, {}))


def opened(peer, stream=1):
    """A request whose body is still to come."""
    return peer.headers(stream, flags=["END_HEADERS"], method="POST")


# Frames.
passes("4.1", "unknown_kind", lambda it: [raw(0xF0, 0, 0, b"anything")])
passes("4.1", "unknown_flags", lambda it: [raw(6, 0xFE, 0, bytes(8))])
passes("4.1", "reserved_bit", lambda it: [raw(6, 0, 1 << 31, bytes(8))])
breaks("4.2", "header_too_long", lambda it: [raw(1, 4, 1, it.block() + bytes(20_000))], FRAME_SIZE)
breaks("4.2", "settings_too_long", lambda it: [raw(4, 0, 0, bytes(6) * 5000)], FRAME_SIZE)
breaks("4.2", "data_too_long", lambda it: [opened(it), raw(0, 1, 1, bytes(20_000))], FRAME_SIZE)
breaks(
    "4.3",
    "interleaved",
    lambda it: [it.headers(flags=["END_STREAM"]), PriorityFrame(1, depends_on=0, stream_weight=1)],
    PROTOCOL,
)
breaks("4.3", "interleaved_header", lambda it: [it.headers(flags=["END_STREAM"]), it.headers(3)], PROTOCOL)
breaks("5.5", "interleaved_extension", lambda it: [it.headers(flags=["END_STREAM"]), raw(0xF0, 0, 1, b"x")], PROTOCOL)

# Streams.
breaks("5.1", "data_on_idle", lambda it: [DataFrame(1, b"x", flags=["END_STREAM"])], PROTOCOL)
breaks("5.1", "reset_of_idle", lambda it: [RstStreamFrame(1, 8)], PROTOCOL)
breaks("5.1", "window_of_idle", lambda it: [WindowUpdateFrame(1, 1)], PROTOCOL)
breaks("5.1", "continuation_on_idle", lambda it: [ContinuationFrame(1, b"", flags=["END_HEADERS"])], PROTOCOL)
breaks("5.1.1", "even_stream", lambda it: [it.headers(2)], PROTOCOL)
breaks("5.1.1", "older_stream", lambda it: [it.headers(5), it.headers(3)], PROTOCOL, STREAM_CLOSED)
passes("5.1.1", "skipped_streams", lambda it: [it.headers(51)])


@case("5.1")
def data_behind_the_end(peer):
    peer.send(peer.headers(path="/late"), DataFrame(1, b"x", flags=["END_STREAM"]))
    closes(peer)


@case("5.1")
def header_behind_the_end(peer):
    peer.send(peer.headers(path="/late"), peer.headers())
    closes(peer)


def closes(peer):
    """It was the stream's fault, or the connection's."""
    frame = peer.until(lambda it: isinstance(it, (RstStreamFrame, GoAwayFrame)))
    assert frame.error_code in (STREAM_CLOSED, PROTOCOL), frame


@case("5.1")
def data_behind_a_reset(peer):
    peer.send(opened(peer), RstStreamFrame(1, 8), DataFrame(1, b"x", flags=["END_STREAM"]), PingFrame(0, b"12345678"))
    while not isinstance(frame := peer.next(), PingFrame):
        if frame is None or isinstance(frame, GoAwayFrame):
            return
        assert not isinstance(frame, HeadersFrame), "it is taken for a part of the request"


@case("5.1.2")
def more_streams_than_allowed(peer):
    streams = range(1, 1 + 2 * 150, 2)
    peer.send(*(peer.headers(stream, path="/late") for stream in streams))
    refused = 0
    while refused < 50:
        frame = peer.next()
        assert frame is not None and not isinstance(frame, GoAwayFrame), "the connection ends"
        if isinstance(frame, RstStreamFrame):
            assert frame.error_code in (REFUSED, PROTOCOL), frame
            refused += 1


# Each kind of frame.
breaks("6.1", "data_on_none", lambda it: [raw(0, 1, 0, b"x")], PROTOCOL)
breaks("6.1", "data_of_padding", lambda it: [opened(it), raw(0, 8 | 1, 1, b"\x06hello")], PROTOCOL)
passes("6.1", "data_with_padding", lambda it: [opened(it, 51), raw(0, 8 | 1, 51, b"\x03hello\0\0\0")])
breaks("6.2", "header_on_none", lambda it: [raw(1, 4 | 1, 0, it.block())], PROTOCOL)
breaks("6.2", "header_of_padding", lambda it: [raw(1, 8 | 4 | 1, 1, b"\xff" + it.block())], PROTOCOL)
passes("6.2", "header_with_padding", lambda it: [raw(1, 8 | 4 | 1, 51, b"\x02" + it.block() + b"\0\0")])
passes("6.2", "header_with_priority", lambda it: [raw(1, 32 | 4 | 1, 51, bytes(4) + b"\x10" + it.block())])
breaks("6.3", "priority_on_none", lambda it: [raw(2, 0, 0, bytes(5))], PROTOCOL)
breaks("6.4", "reset_of_none", lambda it: [raw(3, 0, 0, bytes(4))], PROTOCOL)
breaks("6.4", "reset_too_short", lambda it: [opened(it), raw(3, 0, 1, bytes(3))], FRAME_SIZE)
breaks("6.5", "acknowledgement_with_more", lambda it: [raw(4, 1, 0, bytes(6))], FRAME_SIZE)
breaks("6.5", "settings_of_a_stream", lambda it: [raw(4, 0, 1, bytes(6))], PROTOCOL)
breaks("6.5", "settings_cut_short", lambda it: [raw(4, 0, 0, bytes(5))], FRAME_SIZE)
passes("6.5.2", "unknown_setting", lambda it: [raw(4, 0, 0, struct.pack(">HI", 0xFF, 1))])
for name, setting, value, code in [
    ("push", 2, 2, PROTOCOL),
    ("window", 4, 2**31, FLOW_CONTROL),
    ("frame_too_small", 5, 2**14 - 1, PROTOCOL),
    ("frame_too_large", 5, 2**24, PROTOCOL),
    ("connect", 8, 2, PROTOCOL),
]:
    breaks(
        "6.5.2",
        f"setting_of_{name}",
        lambda it, setting=setting, value=value: [raw(4, 0, 0, struct.pack(">HI", setting, value))],
        code,
    )
breaks("6.6", "promise_of_a_client", lambda it: [opened(it), PushPromiseFrame(1, 2, it.block(), flags=["END_HEADERS"])], PROTOCOL)
breaks("6.7", "ping_of_a_stream", lambda it: [raw(6, 0, 1, bytes(8))], PROTOCOL)
breaks("6.7", "ping_too_short", lambda it: [raw(6, 0, 0, bytes(6))], FRAME_SIZE)
breaks("6.8", "farewell_of_a_stream", lambda it: [raw(7, 0, 1, bytes(8))], PROTOCOL)
breaks("6.9", "no_window", lambda it: [raw(8, 0, 0, bytes(4))], PROTOCOL)
fails("6.9", "no_window_of_a_stream", lambda it: [opened(it), raw(8, 0, 1, bytes(4))], PROTOCOL)
breaks("6.9", "window_too_short", lambda it: [raw(8, 0, 0, bytes(3))], FRAME_SIZE)
breaks("6.9.1", "window_too_large", lambda it: [WindowUpdateFrame(0, LARGEST_WINDOW)], FLOW_CONTROL)
fails(
    "6.9.1",
    "window_of_a_stream_too_large",
    lambda it: [opened(it), WindowUpdateFrame(1, LARGEST_WINDOW)],
    FLOW_CONTROL,
)
breaks("6.10", "continuation_of_nothing", lambda it: [it.headers(), ContinuationFrame(1, b"")], PROTOCOL, STREAM_CLOSED)
breaks(
    "6.10",
    "continuation_on_none",
    lambda it: [it.headers(flags=["END_STREAM"]), raw(9, 4, 0, b"")],
    PROTOCOL,
)
breaks(
    "6.10",
    "continuation_of_another",
    lambda it: [it.headers(flags=["END_STREAM"]), ContinuationFrame(3, b"", flags=["END_HEADERS"])],
    PROTOCOL,
)


@case("6.3")
def priority_too_short(peer):
    peer.send(raw(2, 0, 1, bytes(4)))
    frame = peer.until(lambda it: isinstance(it, (RstStreamFrame, GoAwayFrame)))
    assert frame.error_code in (FRAME_SIZE, PROTOCOL), frame


@case("6.7")
def ping_is_answered(peer):
    peer.send(PingFrame(0, b"an echo!"))
    frame = peer.until(lambda it: isinstance(it, PingFrame))
    assert "ACK" in frame.flags and frame.opaque_data == b"an echo!", frame


@case("6.7")
def answer_to_a_ping_is_not_answered(peer):
    peer.send(PingFrame(0, b"answered", flags=["ACK"]), PingFrame(0, b"asked..."))
    frame = peer.until(lambda it: isinstance(it, PingFrame))
    assert frame.opaque_data == b"asked...", frame


@case("6.9.1", {SettingsFrame.INITIAL_WINDOW_SIZE: 2})
def no_more_comes_than_the_window_holds(peer):
    peer.send(peer.headers())
    data = lambda: peer.until(lambda it: isinstance(it, DataFrame)).data
    got = data()
    assert len(got) == 2, got
    peer.send(WindowUpdateFrame(1, 1), PingFrame(0, b"12345678"))
    got += data()
    assert len(got) == 3, got
    peer.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 2000}))
    while got != b"hello":
        got += data()


@case("6.9.2", {SettingsFrame.INITIAL_WINDOW_SIZE: 3})
def a_window_may_be_negative(peer):
    peer.send(peer.headers())
    got = peer.until(lambda it: isinstance(it, DataFrame)).data
    peer.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1}))
    peer.until(lambda it: isinstance(it, SettingsFrame) and "ACK" in it.flags)
    peer.send(WindowUpdateFrame(1, 2), PingFrame(0, b"12345678"))
    peer.until(lambda it: isinstance(it, (PingFrame, DataFrame)) and not isinstance(it, DataFrame))
    peer.send(WindowUpdateFrame(1, 1))
    got += peer.until(lambda it: isinstance(it, DataFrame)).data
    assert got == b"hell", got


@case("6.9.2")
def a_change_makes_the_window_too_large(peer):
    peer.send(opened(peer), WindowUpdateFrame(1, LARGEST_WINDOW - 65_535))
    peer.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65_536}))
    frame = peer.until(lambda it: isinstance(it, (RstStreamFrame, GoAwayFrame)))
    assert frame.error_code == FLOW_CONTROL, frame


@case("6.9.1")
def data_beyond_the_window(peer):
    peer.send(peer.headers(flags=["END_HEADERS"], method="POST", path="/late"))
    # What it has allowed beyond the first 65,535 bytes is not needed to know that this is too much.
    piece = DataFrame(1, bytes(16_384)).serialize()
    for _ in range(256):
        peer.send(piece)
    frame = peer.until(lambda it: isinstance(it, (RstStreamFrame, GoAwayFrame)))
    assert frame.error_code == FLOW_CONTROL, frame


# Requests.
for name, changes, more in [
    ("capitals", [("X-Odd", "1")], {}),
    ("unknown_pseudo_field", [(":odd", "1")], {}),
    ("pseudo_field_of_answers", [(":status", "200")], {}),
    ("late_pseudo_field", [("x-odd", "1"), (":path", "/")], {"without": [":path"]}),
    ("connection", [("connection", "keep-alive")], {}),
    ("coding", [("transfer-encoding", "chunked")], {}),
    ("te", [("te", "trailers, deflate")], {}),
    ("no_method", [], {"without": [":method"]}),
    ("no_scheme", [], {"without": [":scheme"]}),
    ("no_path", [], {"without": [":path"]}),
    ("empty_path", [], {"path": ""}),
    ("two_methods", [(":method", "GET")], {}),
    ("two_paths", [(":path", "/")], {}),
    ("length_without_data", [("content-length", "3")], {}),
]:
    fails(
        "8",
        name,
        lambda it, changes=changes, more=more: [it.headers(data=it.block(*changes, **more))],
        PROTOCOL,
    )


@case("8.1.1")
def more_data_than_the_length(peer):
    block = peer.block(("content-length", "1"), method="POST")
    peer.send(peer.headers(data=block, flags=["END_HEADERS"]), DataFrame(1, b"xyz", flags=["END_STREAM"]))
    ends_stream(peer, PROTOCOL)


@case("8.1")
def trailers_that_are_not_the_end(peer):
    peer.send(opened(peer), peer.headers(data=peer.encoder.encode([("x-odd", "1")]), flags=["END_HEADERS"]))
    ends_stream(peer, PROTOCOL)


@case("8.1")
def trailers_are_dropped_whatever_they_hold(peer):
    """Those with a pseudo field should end the stream, which the framework leaves out; they go nowhere."""
    peer.send(opened(peer), DataFrame(1, b"x"), peer.headers(data=peer.encoder.encode([(":path", "/other")])))
    is_answered(peer)


# Compression of headers (RFC 7541).
for name, block in [
    ("index_beyond_the_table", b"\xff\x80\x01"),
    ("index_of_nothing", b"\x80"),
    ("integer_without_an_end", b"\xff" + b"\xff" * 12),
    ("table_too_large", b"\x3f\xe2\xff\x03"),
    ("table_changed_late", b"\x82\x84\x86\x20"),
    ("text_cut_short", b"\x82\x86\x84\x00\x7fx"),
    ("end_of_text_within_it", b"\x82\x86\x84\x00\x88\xff\xff\xff\xff\xff\xff\xff\xff\x01x"),
]:
    breaks("7541", name, lambda it, block=block: [it.headers(data=block)], COMPRESSION)


# What the framework's library does not mind, and what does no harm.
passes("7541", "padding_too_long", lambda it: [it.headers(data=it.block() + b"\x00\x85\xf2\xb2\x4a\x84\xff\x01x")])


@case("3.4")
def settings_do_not_come_first(peer):
    peer = Peer(ADDRESS)
    serves(peer)


@case("3.4")
def a_preface_has_two_halves(peer):
    peer = Peer(ADDRESS, PREFACE.replace(b"SM", b"XX"))
    peer.send(SettingsFrame(0))
    assert not any(isinstance(it, SettingsFrame) and "ACK" in it.flags for it in iter(peer.next, None))


failed = []
for section, function, settings in CASES:
    peer = Peer(ADDRESS, settings=settings)
    try:
        function(peer)
    except (AssertionError, OSError) as error:
        failed.append(f"{section} {function.__name__}: {error or type(error).__name__}")
    finally:
        peer.socket.close()
print("\n".join([*failed, f"{len(CASES)} cases"]))
sys.exit(bool(failed))
