"""A WebSocket server that sends back what it gets, below /ws, and refuses everything else. Prints its port."""

import asyncio
import http
import sys

import websockets


async def echo(socket):
    try:
        async for message in socket:
            await socket.send(message)
    except websockets.ConnectionClosed:
        pass


async def refuse(path, headers):
    if path.startswith("/ws"):
        return None
    return http.HTTPStatus.NOT_FOUND, [("X-Why", "nothing is here")], b"no"


async def main():
    async with websockets.serve(
        echo, "127.0.0.1", 0, process_request=refuse, compression=None, max_size=None
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        # It ends with its test.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
