"""Starts servers and measures them: processor time from the kernel's accounting, load from wrk,
instructions from callgrind."""

import http.client
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def pinned(core, command):
    return ["taskset", "-c", str(core), *command]


class Running:
    """A server in a process of its own, on one core."""

    def __init__(self, command, environment, port, core, patience=30):
        environment = dict(environment)
        out = environment.pop("STDOUT", None)
        self.port = port
        self.process = subprocess.Popen(
            pinned(core, command),
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=open(out, "ab") if out else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + patience
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    said = self.process.stderr.read().decode(errors="replace")
                    raise SystemExit(f"{command[0]} does not start:\n{said}")
                time.sleep(0.05)

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def peak_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def load(server, path, headers, seconds, connections, core, script=(), arguments=()):
    """One run of wrk against a server, perhaps with a script and its arguments."""
    fields = [item for name, value in headers.items() for item in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *fields, *script]
    before = server.cpu_seconds()
    out = subprocess.run(
        pinned(core, [*command, f"http://127.0.0.1:{server.port}{path}", "--", *arguments]),
        check=True, capture_output=True, text=True,
    ).stdout
    spent = server.cpu_seconds() - before
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"requests failed:\n{out}")
    requests = int(re.search(r"(\d+) requests in", out)[1])
    return {
        "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        "cpu_us": spent / requests * 1e6,
        "p50_ms": milliseconds(re.search(r"^ +50% +(\S+)", out, re.M)[1]),
        "p99_ms": milliseconds(re.search(r"^ +99% +(\S+)", out, re.M)[1]),
    }


def milliseconds(text):
    number, unit = re.match(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def instructions(command, environment, port, path, headers, folder, core, requests=2000):
    """Instructions that one more request on an open connection costs, under callgrind."""
    out = folder / f"callgrind.{port}"
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--log-file=/dev/null"]
    server = Running([*valgrind, *command], environment, port, core, patience=120)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        ask(connection, path, headers, 200)
        control(server, "--zero")
        ask(connection, path, headers, requests)
        control(server, "--dump")
        dumps = sorted(folder.glob(f"callgrind.{port}.*"), key=lambda dump: dump.stat().st_mtime)
        total = sum(int(number) for number in re.findall(r"^(?:totals|summary): (\d+)", dumps[-1].read_text(), re.M)[:1])
        return total / requests
    finally:
        server.process.kill()
        server.process.wait()


def ask(connection, path, headers, count):
    for _ in range(count):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"status {answer.status} under callgrind")


def control(server, what):
    # taskset replaces itself by valgrind, so the process is the same.
    subprocess.run(["callgrind_control", what, str(server.process.pid)], check=True, capture_output=True)
