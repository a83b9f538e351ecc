"""A gRPC server with one method of each kind; messages are bytes as they are. Prints its port."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc


def unary(request, context):
    sent = dict(context.invocation_metadata())
    context.send_initial_metadata((("seen-timeout", sent.get("x-request-deadline-ms", "none")),))
    context.set_trailing_metadata((("parting-word", sent.get("word", "none")),))
    return request


def down(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def up(requests, context):
    return b"+".join(requests)


def both(requests, context):
    for request in requests:
        yield b"re:" + request


def fail(request, context):
    code = next(it for it in grpc.StatusCode if it.name == request.decode())
    context.abort(code, "50 % too bad: ä")


def fail_late(request, context):
    yield b"first"
    fail(request, context)


def sleep(request, context):
    time.sleep(float(request))
    return request


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Up": grpc.stream_unary_rpc_method_handler(up),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
    "Sleep": grpc.unary_unary_rpc_method_handler(sleep),
}

server = grpc.server(ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", HANDLERS),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
# It ends with its test.
sys.stdin.read()
