"""What it costs to keep a limit together with other gateways: `make shared-bench`.

The same gateway, on one core, with a limit that it keeps alone, one that it shares over Redis in `fast` mode
and one in `strict` mode; load, backend and Redis are on another core. Rounds are interleaved. Then one client
asks one request after the other, and what `strict` adds to the latency is held against a round trip to Redis.
"""

import argparse
import csv
import io
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import measure
import peers
import report
import run

HERE = Path(__file__).parent
GATEWAY = "target/release/tollgate"
# Keys of the limit beside `store`.
CASES = {"local": "", "fast": ", store: redis", "strict": ", store: redis, mode: strict"}
# How many keys requests are spread over, and the limit of each.
LOADS = {
    "one key": (1, "limit: 1000000, window: 1s"),
    "10,000 keys": (10_000, "limit: 6000, window: 1m"),
}
ROUND_TRIPS = 20_000


def redis(folder):
    port = measure.free_port()
    command = [peers.which("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    return measure.Running([*command, "--dir", str(folder)], {}, port, run.LOAD_CORE)


def gateway(folder, name, limit, backend, store):
    """One that has looked for its store already."""
    port = measure.free_port()
    path = folder / f"{name}.yaml"
    path.write_text(f"""
server: {{ listen: 127.0.0.1:{port}, threads: 1 }}
admin: off
log: {{ access: off }}
redis: {{ url: "redis://127.0.0.1:{store.port}", key_prefix: {name} }}
services:
  backend:
    base_url: http://{backend}
    rate_limit: {{ {limit}, by: "header:X-Account" }}
    routes: [/]
""")
    return measure.Running([GATEWAY, "run", "-c", str(path)], {}, port, run.SERVER_CORE)


def load(server, keys, arguments, connections):
    script = ["-s", str(HERE / "shared.lua")]
    return measure.load(
        server, "/", {}, arguments.seconds, connections, run.LOAD_CORE, script, [str(keys)]
    )


def rounds(servers, keys, arguments, connections):
    results = {name: [] for name in servers}
    for server in servers.values():
        load(server, keys, arguments, connections)
    for number in range(arguments.rounds):
        names = list(servers)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            found = load(servers[name], keys, arguments, connections)
            results[name].append(found)
            print(
                f"{keys:6} keys, {connections:2} connections, round {number + 1}  {name:7} "
                f"{found['cpu_us']:6.2f} us  p50 {found['p50_ms']:.3f} ms  p99 {found['p99_ms']:.3f} ms",
                flush=True,
            )
    return results


def round_trip(store):
    """Latencies of one question after the other, in milliseconds."""
    command = ["redis-benchmark", "-p", str(store.port), "-c", "1", "-n", str(ROUND_TRIPS), "-t", "ping_mbulk", "--csv"]
    out = subprocess.run(
        measure.pinned(run.SERVER_CORE, command), check=True, capture_output=True, text=True
    ).stdout
    row = next(csv.DictReader(io.StringIO(out)))
    return float(row["p50_latency_ms"]), float(row["p99_latency_ms"])


def median(found, field):
    return statistics.median(it[field] for it in found)


def ratio(found, other, field):
    return statistics.median(a[field] / b[field] for a, b in zip(found, other))


def markdown(costs, latencies, trip, arguments):
    out = [
        "# Results of `make shared-bench`", "",
        f"On {report.machine()}: one worker on one core; wrk, backend and Redis on another. Medians of "
        f"{arguments.rounds} interleaved rounds of {arguments.seconds} s; ratios are taken inside a round.", "",
        "| load (64 connections) | mode | CPU µs a request | × local |", "|---|---|--:|--:|",
    ]
    for name, results in costs.items():
        for mode, found in results.items():
            times = ratio(found, results["local"], "cpu_us")
            out.append(f"| {name} | {mode} | {median(found, 'cpu_us'):.1f} | {times:.3f} |")
    out += ["", "| one client, one key | p50 ms | p99 ms |", "|---|--:|--:|"]
    for mode, found in latencies.items():
        out.append(f"| {mode} | {median(found, 'p50_ms'):.3f} | {median(found, 'p99_ms'):.3f} |")
    out.append(f"| a round trip to Redis (`PING`) | {trip[0]:.3f} | {trip[1]:.3f} |")
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of load in a round")
    parser.add_argument("--results", type=Path, help="file to write")
    arguments = parser.parse_args()
    running = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        try:
            upstream, address = run.backend(folder)
            running.append(upstream)
            store = redis(folder)
            running.append(store)
            costs = {}
            for number, (load_name, (keys, limit)) in enumerate(LOADS.items()):
                servers = {}
                for mode, rest in CASES.items():
                    servers[mode] = gateway(folder, f"{mode}-{number}", limit + rest, address, store)
                    running.append(servers[mode])
                costs[load_name] = rounds(servers, keys, arguments, 64)
                if keys == 1:
                    latencies = rounds(servers, keys, arguments, 1)
            trip = round_trip(store)
        finally:
            for server in reversed(running):
                server.stop()
    text = markdown(costs, latencies, trip, arguments)
    print("\n" + text)
    if arguments.results:
        arguments.results.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
