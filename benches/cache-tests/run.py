"""The public suite http-tests/cache-tests against the gateway and other caches: `make cache-conformance`.

The suite is cloned at COMMIT, from `CACHE_TESTS` where that names a folder (a clone, or a bare repository).
Peers that are installed are run; the suite's own recorded results of them stand beside that.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peers
import report

HERE = Path(__file__).parent
SUITE = "https://github.com/http-tests/cache-tests"
COMMIT = "b55b8bda3dbb8c927c04e85bd8d496a8caa3e4ba"
# Seconds for all tests; they take about one minute.
PATIENCE = 240
# The gateway as it comes, and with what an operator may decide otherwise.
PLAIN = "{}"
CHOSEN = (
    "{ heuristic: 10%, stale_if_error: 1m, request_directives: obey, set_cookie: withhold, shared: true, "
    "key: { cookies: [] } }"
)


def suite(folder):
    """The suite, with what it needs."""
    if not (folder / "package.json").exists():
        source = os.environ.get("CACHE_TESTS", SUITE)
        subprocess.run(["git", "clone", "--quiet", source, str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "checkout", "--quiet", COMMIT], check=True)
    if not (folder / "node_modules").exists():
        subprocess.run(["npm", "install", "--silent", "--omit=dev", "--no-audit"], cwd=folder, check=True)
    return folder


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


class Running:
    """A server in a process group of its own, until it is stopped."""

    def __init__(self, command, environment=None, cwd=None, out=subprocess.DEVNULL):
        self.process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, cwd=cwd, stdin=subprocess.DEVNULL,
            stdout=out, stderr=subprocess.DEVNULL, start_new_session=True, text=True,
        )

    def until_listening(self, port):
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise SystemExit(f"{self.process.args} does not start") from None
                time.sleep(0.05)

    def stop(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(10)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue


def origin(folder, scratch):
    """The suite's backend, on a port that the system chose."""
    environment = {
        "npm_config_protocol": "http", "npm_config_port": "0", "npm_config_pidfile": str(scratch / "origin.pid"),
    }
    command = ["node", "--import", str(HERE / "loopback.mjs"), "test-engine/server/server.mjs"]
    server = Running(command, environment, folder, subprocess.PIPE)
    for line in server.process.stdout:
        if found := re.search(r"Listening on .*:(\d+)/", line):
            return server, int(found[1])
    raise SystemExit("the suite's backend does not start")


def results(folder, port):
    """What the suite says of the server at a port; `None` if something else held it up."""
    environment = {
        **os.environ, "npm_config_base": f"http://127.0.0.1:{port}",
        # Empty for all tests; unset is an error.
        "npm_config_id": "", "npm_package_config_id": "",
    }
    command = ["node", "--no-warnings", "test-engine/cli.mjs"]
    try:
        out = subprocess.run(
            command, cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=PATIENCE
        ).stdout
    except subprocess.TimeoutExpired:
        return None
    found = json.loads(out[out.index("{"):])
    # The suite gives up on connections after a while, also on a machine that is busy with other things.
    lost = sum(isinstance(it, list) and it[1] == "fetch failed" for it in found.values())
    return found if lost < len(found) / 20 else None


def run(folder, start, program, path):
    """Runs the suite against a server, and writes its results."""
    for _ in range(3):
        if found := attempt(folder, start, program):
            path.write_text(json.dumps(found))
            return
    raise SystemExit("the machine is too busy for the suite")


def attempt(folder, start, program):
    """The results of one run; `None` if it does not count."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        # Workers may be another user's.
        scratch.chmod(0o755)
        backend, at = origin(folder, scratch)
        home = scratch / "server"
        home.mkdir()
        port = free_port()
        server = None
        try:
            server = Running(start(program, home, port, at)).until_listening(port)
            return results(folder, port)
        finally:
            if server:
                server.stop()
            backend.stop()


def version(program, arguments):
    said = subprocess.run([program, *arguments], capture_output=True, text=True)
    return re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr)[0]


def recorded_versions(folder):
    text = (folder / "results/index.mjs").read_text()
    found = re.findall(r"file: '(\w+)\.json'.*?version: '([^']*)'", text, re.S)
    # Without what a distribution adds to it.
    return {name: re.match(r"\d{4}-\d\d-\d\d|[\d.]+", version)[0] for name, version in found}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="target/release/tollgate")
    parser.add_argument("--suite", type=Path, default=Path(".bench/cache-tests"), help="where the suite is put")
    parser.add_argument("--results", type=Path, help="file to write")
    arguments = parser.parse_args()
    program = str(Path(arguments.program).resolve())
    arguments.suite.parent.mkdir(parents=True, exist_ok=True)
    folder = suite(arguments.suite.resolve())
    out = folder.parent / "cache-tests-results"
    out.mkdir(exist_ok=True)
    columns = []

    def measure(name, start, executable, number):
        path = out / f"{number}.json"
        print(f"running {name}", flush=True)
        run(folder, start, executable, path)
        return path

    own = version(program, ["version"])
    for name, cache in (("Tollgate", PLAIN), ("Tollgate, other settings", CHOSEN)):
        columns.append((name, own, "here", measure(name, peers.tollgate(cache), program, len(columns))))
    recorded = recorded_versions(folder)
    for name, start, executable, asks, file in peers.PEERS:
        if found := peers.which(executable):
            path = measure(name, start, found, len(columns))
            columns.append((name, version(found, asks), "here", path))
        columns.append((name, recorded[file], "recorded", folder / f"results/{file}.json"))
    for name, file in peers.RECORDED:
        columns.append((name, recorded[file], "recorded", folder / f"results/{file}.json"))
    command = ["node", str(HERE / "outcomes.mjs"), str(folder), *(str(path) for *_, path in columns)]
    tests = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    text, unexplained = report.markdown(columns, tests, COMMIT, (PLAIN, CHOSEN))
    print("\n" + text)
    if arguments.results:
        arguments.results.write_text(text)
    return f"no reason is known for {', '.join(unexplained)}" if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
