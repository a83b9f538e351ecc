"""Calls by gRPC through the gateway: client.py ADDRESS WHAT. Ends with 0 if all is as it should be."""

import queue
import sys

import grpc

ADDRESS, WHAT = sys.argv[1:]
channel = grpc.insecure_channel(ADDRESS, options=(("grpc.enable_retries", 0),))
PATIENCE = 20


def same(got, expected):
    assert got == expected, f"{got!r} is not {expected!r}"


def call(method, request=b"", timeout=PATIENCE, metadata=()):
    return channel.unary_unary(method)(request, timeout=timeout, metadata=metadata)


def failure(method, request=b"", timeout=PATIENCE, metadata=()):
    try:
        call(method, request, timeout, metadata)
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"{method} did not fail")


def kinds():
    response, done = channel.unary_unary("/test.Echo/Unary").with_call(
        b"hello", timeout=PATIENCE, metadata=(("word", "farewell"),)
    )
    same(response, b"hello")
    same(dict(done.trailing_metadata())["parting-word"], "farewell")
    seen = int(dict(done.initial_metadata())["seen-timeout"])
    # The client rounds up to hundreds of milliseconds: 20001 are 20100.
    assert 0 < seen <= PATIENCE * 1000 + 100, seen
    same(list(channel.unary_stream("/test.Echo/Down")(b"5", timeout=PATIENCE)), [b"0", b"1", b"2", b"3", b"4"])
    same(list(channel.unary_stream("/test.Echo/Down")(b"0", timeout=PATIENCE)), [])
    up = channel.stream_unary("/test.Echo/Up")
    same(up(iter([b"a", b"b", b"c"]), timeout=PATIENCE), b"a+b+c")
    same(up(iter([]), timeout=PATIENCE), b"")
    # Each is sent when the answer to the one before has come.
    asked = queue.Queue()
    answers = channel.stream_stream("/test.Echo/Both")(iter(asked.get, None), timeout=PATIENCE)
    for word in (b"one", b"two", b"three"):
        asked.put(word)
        same(next(answers), b"re:" + word)
    asked.put(None)
    same(list(answers), [])
    large = bytes(range(256)) * 4096
    same(call("/test.Echo/Unary", large), large)


def failures():
    for name in ("NOT_FOUND", "UNAVAILABLE", "DATA_LOSS"):
        error = failure("/test.Echo/Fail", name.encode())
        same((error.code().name, error.details()), (name, "50 % too bad: ä"))
    answers = channel.unary_stream("/test.Echo/FailLate")(b"ABORTED", timeout=PATIENCE)
    same(next(answers), b"first")
    try:
        next(answers)
    except grpc.RpcError as error:
        same(error.code().name, "ABORTED")
    else:
        raise AssertionError("it did not fail")


def deadline():
    same(failure("/test.Echo/Sleep", b"5", timeout=0.4).code().name, "DEADLINE_EXCEEDED")


def late():
    error = failure("/test.Echo/Sleep", b"5")
    same((error.code().name, error.details()), ("UNAVAILABLE", "the backend did not answer in time"))


def own():
    error = failure("/nobody.Knows/This")
    same((error.code().name, error.details()), ("UNIMPLEMENTED", "no route takes this request"))
    same(failure("/secret.Service/Tell").code().name, "UNAUTHENTICATED")
    same(failure("/denied.Service/Tell").code().name, "PERMISSION_DENIED")
    same(failure("/dead.Service/Tell").code().name, "UNAVAILABLE")
    call("/test.Echo/Unary", b"the first")
    error = failure("/test.Echo/Unary", b"one too many")
    same(error.code().name, "UNAVAILABLE")
    assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 1000, error
    assert "spent" in error.details(), error


def unavailable():
    for _ in range(8):
        same(failure("/test.Echo/Fail", b"UNAVAILABLE").code().name, "UNAVAILABLE")
    details = failure("/test.Echo/Unary").details()
    assert "left alone" in details, details


{it.__name__: it for it in (kinds, failures, deadline, late, own, unavailable)}[WHAT]()
