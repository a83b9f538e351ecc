"""What it costs to be seen: `make observe-bench`.

The same gateway on one core: unobserved but for its metrics, which are always counted; with an access log in
JSON; with traces of 1 % of its requests; with both. Load, backend and collector are on another core. Rounds are
interleaved. Then the metrics of 10,000 routes are scraped while requests come, as often as is usual and once a
second, and the latencies are held against those of the same rounds without scrapes.
"""

import argparse
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import measure
import report
import run

GATEWAY = "target/release/tollgate"
ROUTES = 10_000
# Seconds between scrapes.
SCRAPES = {"unobserved": None, "scraped every 15 s": 15, "scraped once a second": 1}
# Keys beside `server` and `services`.
CASES = {
    "metrics alone": "log: { access: off }",
    "and an access log (JSON)": "log: { access: { output: FOLDER/access.log } }",
    "and 1 % of traces": "log: { access: off }\ntracing: { otlp: COLLECTOR, sample: 1% }",
    "and both": "log: { access: { output: FOLDER/access.log } }\ntracing: { otlp: COLLECTOR, sample: 1% }",
}


class Collector(BaseHTTPRequestHandler):
    """Takes spans and forgets them."""

    protocol_version = "HTTP/1.1"
    received = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        Collector.received += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def gateway(folder, name, text, admin="off"):
    port = measure.free_port()
    path = folder / f"{name}.yaml"
    path.write_text(f"server: {{ listen: 127.0.0.1:{port}, threads: 1 }}\nadmin: {admin}\n{text}\n")
    return measure.Running([GATEWAY, "run", "-c", str(path)], {}, port, run.SERVER_CORE)


def costs(folder, backend, collector, arguments):
    """Processor time of a request, by what is seen of it."""
    servers = {}
    try:
        for number, (case, text) in enumerate(CASES.items()):
            text = text.replace("FOLDER", f"{folder}/{number}").replace("COLLECTOR", collector)
            (folder / str(number)).mkdir()
            text += f"\nservices: {{ backend: {{ base_url: http://{backend}, routes: [/] }} }}"
            servers[case] = gateway(folder, f"cost-{number}", text)
        results = {case: [] for case in servers}
        for number in range(-1, arguments.rounds):
            cases = list(servers)
            shift = number % len(cases)
            for case in cases[shift:] + cases[:shift]:
                found = measure.load(servers[case], "/", {}, arguments.seconds, 64, run.LOAD_CORE)
                if number < 0:
                    continue
                results[case].append(found)
                print(f"round {number + 1}  {case:26} {found['cpu_us']:6.2f} us", flush=True)
            for log in folder.glob("*/access.log"):
                # It is open for appending.
                log.write_text("")
        return results
    finally:
        for server in servers.values():
            server.stop()


def scrape(port, interval, seconds, until):
    """Scrapes as from another machine: it takes no time of the gateway's core, nor of who loads it."""
    os.sched_setaffinity(0, {run.LOAD_CORE})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    part = bytearray(64 * 1024)
    while not until.wait(interval / 2):
        begin = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), 30) as stream:
            stream.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            length = 0
            while count := stream.recv_into(part):
                length += count
        if length < 1_000_000:
            raise SystemExit(f"a page has {length} bytes")
        seconds.append(time.monotonic() - begin)
        until.wait(interval / 2)


def steady(server, seconds):
    """Latencies in milliseconds of requests that a few connections send at their leisure."""
    found = measure.load(server, "/r0", {}, seconds, 4, run.LOAD_CORE)
    return found["p50_ms"], found["p99_ms"]


def scrapes(folder, backend, arguments):
    """How long scrapes take, and latencies beside them."""
    routes = "\n".join(f"      - /r{number}" for number in range(ROUTES))
    admin = measure.free_port()
    text = (
        f"log: {{ access: off }}\nmetrics: {{ max_routes: {ROUTES} }}\n"
        f"services:\n  backend:\n    base_url: http://{backend}\n    routes:\n{routes}"
    )
    server = gateway(folder, "scraped", text, f"{{ listen: 127.0.0.1:{admin} }}")
    latencies, seconds = {case: [] for case in SCRAPES}, []
    try:
        steady(server, 1)
        for _ in range(arguments.rounds):
            for case, interval in SCRAPES.items():
                until = threading.Event()
                scraper = threading.Thread(target=scrape, args=(admin, interval, seconds, until))
                if interval:
                    scraper.start()
                latencies[case].append(steady(server, max(it or 0 for it in SCRAPES.values())))
                until.set()
                if interval:
                    scraper.join()
                print(f"{case:22} p99 {latencies[case][-1][1]:.3f} ms", flush=True)
    finally:
        server.stop()
    return latencies, seconds


def median(found):
    return statistics.median(found)


def markdown(costs, latencies, arguments):
    latencies, seconds = latencies
    base = costs["metrics alone"]
    out = [
        "# Results of `make observe-bench`", "",
        f"On {report.machine()}: one worker on one core; wrk, backend and collector on another. Medians of "
        f"{arguments.rounds} interleaved rounds of {arguments.seconds} s; ratios are taken inside a round. Counting "
        "alone is measured by `cargo bench --bench metrics`.", "",
        "| seen by | CPU µs a request | × metrics alone |", "|---|--:|--:|",
    ]
    for case, found in costs.items():
        times = median(a["cpu_us"] / b["cpu_us"] for a, b in zip(found, base))
        out.append(f"| {case} | {median(it['cpu_us'] for it in found):.2f} | {times:.3f} |")
    out += ["", f"| {ROUTES:,} routes | p50 ms | p99 ms |", "|---|--:|--:|"]
    for name, found in latencies.items():
        out.append(f"| {name} | {median(it[0] for it in found):.3f} | {median(it[1] for it in found):.3f} |")
    out += ["", f"A scrape took {median(seconds) * 1e3:.0f} ms, the longest {max(seconds) * 1e3:.0f} ms."]
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=4, help="of load in a round")
    parser.add_argument("--results", type=Path, help="file to write")
    arguments = parser.parse_args()
    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        upstream, address = run.backend(folder)
        try:
            spent = costs(folder, address, f"http://127.0.0.1:{collector.server_port}", arguments)
            latencies = scrapes(folder, address, arguments)
        finally:
            upstream.stop()
    if not Collector.received:
        raise SystemExit("the collector got no spans")
    text = markdown(spent, latencies, arguments)
    print("\n" + text)
    if arguments.results:
        arguments.results.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
