"""Compares Tollgate with its peers on this machine: `make bench`.

Each server has one worker on one core; load and backend are on another. Rounds are interleaved, so
that whatever else the machine does hits all servers alike; ratios are taken inside a round.
"""

import argparse
import base64
import hashlib
import hmac
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import measure
import peers
import report

SERVER_CORE, LOAD_CORE = 0, 1


def token():
    """A token that all peers accept."""
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")
    claims = {"iss": "bench", "sub": "alice", "exp": int(time.time()) + 86400}
    text = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    signature = hmac.new(peers.SECRET.encode(), text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def backend(folder):
    """NGINX with a small fixed answer."""
    port = measure.free_port()
    text = f"""
daemon off; master_process off; worker_processes 1; pid {folder}/backend.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type application/json;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 '{"x" * 128}'; }} }}
}}"""
    path = folder / "backend.conf"
    path.write_text(text)
    command = [peers.which("nginx"), "-c", str(path)]
    return measure.Running(command, {}, port, LOAD_CORE), f"127.0.0.1:{port}"


def compare(scenario, servers, folder, address, arguments):
    """All rounds of one scenario."""
    headers = {"Authorization": f"Bearer {token()}"} if peers.has_policies(scenario) else {}
    path = peers.target(scenario)
    running, results = {}, {}
    for kind in servers:
        port = measure.free_port()
        command, environment = kind(folder, address).command(scenario, port)
        running[kind.name] = measure.Running(command, environment, port, SERVER_CORE)
        results[kind.name] = []
    try:
        for kind in servers:
            measure.load(running[kind.name], path, headers, 1, arguments.connections, LOAD_CORE)
        for number in range(arguments.rounds):
            shift = number % len(servers)
            for kind in servers[shift:] + servers[:shift]:
                server = running[kind.name]
                found = measure.load(
                    server, path, headers, arguments.seconds, arguments.connections, LOAD_CORE
                )
                results[kind.name].append(found)
                print(f"{scenario:9} round {number + 1} {kind.name:20} {found['cpu_us']:7.2f} us  {found['rps']:9.0f} rps", flush=True)
        peaks = {name: server.peak_mib() for name, server in running.items()}
    finally:
        for server in running.values():
            server.stop()
    counted = {}
    for kind in servers if arguments.instructions else []:
        if kind.can_be_counted:
            port = measure.free_port()
            command, environment = kind(folder, address).command(scenario, port)
            counted[kind.name] = measure.instructions(
                command, environment, port, path, headers, folder, SERVER_CORE
            )
            print(f"{scenario:9} {kind.name:20} {counted[kind.name]:9.0f} instructions", flush=True)
    return {name: summary(name, results, peaks, counted) for name in results}


def summary(name, results, peaks, counted):
    rounds, floor = results[name], results[peers.Empty.name]
    best = min(rounds, key=lambda it: it["cpu_us"])
    return {
        **best,
        "ratio": statistics.median(a["cpu_us"] / b["cpu_us"] for a, b in zip(rounds, floor)),
        "peak_mib": peaks[name],
        "instructions": counted.get(name),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of load in a round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--scenarios", nargs="+", default=peers.SCENARIOS, choices=peers.SCENARIOS)
    parser.add_argument("--servers", nargs="+", help="names; the floor is always there")
    parser.add_argument("--no-instructions", dest="instructions", action="store_false")
    parser.add_argument("--results", type=Path, help="folder for RESULTS.md and the plot")
    arguments = parser.parse_args()
    servers = [
        kind for kind in peers.ALL
        if not arguments.servers or kind is peers.Empty or kind.name in arguments.servers
    ]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        upstream, address = backend(folder)
        try:
            results = {it: compare(it, servers, folder, address, arguments) for it in arguments.scenarios}
        finally:
            upstream.stop()
    text = report.markdown(results, servers, arguments)
    print("\n" + text)
    if arguments.results:
        (arguments.results / "RESULTS.md").write_text(text)
        report.plot(results, arguments.results / "results.svg")


if __name__ == "__main__":
    sys.exit(main())
