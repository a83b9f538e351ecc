"""What it costs to give a kept answer: `make cache-bench`.

Tollgate, with and without a disk, NGINX (`proxy_cache`) and Varnish on one core, each with one worker; load and
backend are on another core. Rounds are interleaved. Then memory is measured, before and after so many answers
are kept, and how often S3-FIFO finds an answer where LRU does is computed by the gateway's own code.
"""

import argparse
import http.client
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import measure
import peers
import report
import run

HERE = Path(__file__).parent
LARGE = 64 << 10
FLOOR = "Pingora alone"
# Path, and how many answers requests are spread over.
LOADS = {
    "one answer of 128 bytes": ("/small/0", 1),
    "10,000 answers of 128 bytes": ("/small/0", 10_000),
    "one answer of 64 KiB": ("/large/0", None),
}


class Server(measure.Running):
    """A server with all of its processes: Varnish has one that watches another."""

    def pids(self):
        found, rest = [], [self.process.pid]
        while rest:
            pid = rest.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                rest += [int(child) for child in task.read_text().split()]
        return found

    def cpu_seconds(self):
        total = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / measure.TICK

    def memory(self):
        """Bytes that are its own."""
        status = [Path(f"/proc/{pid}/status").read_text() for pid in self.pids()]
        return sum(int(re.search(r"RssAnon:\s+(\d+)", it)[1]) * 1024 for it in status) + sum(
            int(re.search(r"RssShmem:\s+(\d+)", it)[1]) * 1024 for it in status
        )


def backend(folder):
    """NGINX with answers that may be kept for an hour."""
    port = measure.free_port()
    (folder / "large").write_bytes(b"x" * LARGE)
    path = folder / "backend.conf"
    path.write_text(f"""
daemon off; master_process off; worker_processes 1; pid {folder}/backend.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type application/json;
  client_body_temp_path {folder}/bb; proxy_temp_path {folder}/bp; fastcgi_temp_path {folder}/bf;
  uwsgi_temp_path {folder}/bu; scgi_temp_path {folder}/bs;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    add_header Cache-Control "public, max-age=3600";
    location /small/ {{ return 200 '{"x" * 128}'; }}
    location = /large/0 {{ alias {folder}/large; }}
  }}
}}""")
    return measure.Running([peers.which("nginx"), "-c", str(path)], {}, port, run.LOAD_CORE), f"127.0.0.1:{port}"


def tollgate(program, disk):
    def start(folder, address, name):
        port = measure.free_port()
        store = f"memory: 1GiB, disk: {{ path: {folder}/{name}.kept, max_size: 4GiB }}" if disk else "memory: 1GiB"
        path = folder / f"{name}.yaml"
        path.write_text(f"""
server: {{ listen: 127.0.0.1:{port}, threads: 1, cache: {{ {store} }} }}
admin: off
log: {{ access: off }}
services:
  backend: {{ base_url: http://{address}, cache: {{}}, routes: [{{ prefix: / }}] }}
""")
        return Server([program, "run", "-c", str(path)], {}, port, run.SERVER_CORE)

    return start


def floor(folder, address, name):
    """The framework alone, which looks nothing up and always gives the same small answer."""
    port = measure.free_port()
    return Server(["target/release/examples/tuned", f"127.0.0.1:{port}"], {}, port, run.SERVER_CORE)


def nginx(folder, address, name):
    port = measure.free_port()
    path = folder / f"{name}.conf"
    path.write_text(f"""
user root;
daemon off; master_process off; worker_processes 1; pid {folder}/{name}.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; sendfile on; tcp_nopush on;
  client_body_temp_path {folder}/nb; proxy_temp_path {folder}/np; fastcgi_temp_path {folder}/nf;
  uwsgi_temp_path {folder}/nu; scgi_temp_path {folder}/ns;
  proxy_cache_path {folder}/{name}.kept levels=1:2 keys_zone=kept:64m max_size=4g inactive=1h use_temp_path=off;
  open_file_cache max=20000 inactive=1h;
  upstream backend {{ server {address}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache kept; proxy_cache_lock on; add_header Age 0; add_header X-Cache $upstream_cache_status;
    }}
  }}
}}""")
    return Server([peers.which("nginx"), "-c", str(path)], {}, port, run.SERVER_CORE)


def varnish(folder, address, name):
    port = measure.free_port()
    host, at = address.split(":")
    path = folder / f"{name}.vcl"
    path.write_text(f'vcl 4.1;\nbackend default {{ .host = "{host}"; .port = "{at}"; }}\n')
    command = [
        peers.which("varnishd"), "-F", "-j", "none", "-n", str(folder / name), "-a", f"127.0.0.1:{port}",
        "-f", str(path), "-s", "malloc,1g", "-T", "none", "-p", "thread_pools=1", "-p", "timeout_idle=600",
    ]
    return Server(command, {}, port, run.SERVER_CORE)


def fill(server, count):
    """Has so many answers kept."""

    def ask(first):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        for number in range(first, count, 8):
            connection.request("GET", f"/small/{number}")
            answer = connection.getresponse()
            if answer.status != 200:
                raise SystemExit(f"status {answer.status}")
            answer.read()

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def rounds(servers, load, arguments):
    path, keys = LOADS[load]
    script = ["-s", str(HERE / "cached.lua")] if keys and keys > 1 else []
    servers = {name: it for name, it in servers.items() if name != FLOOR or path.startswith("/small/")}
    results = {name: [] for name in servers}
    for number in range(-1, arguments.rounds):
        names = list(servers)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            found = measure.load(
                servers[name], path, {}, arguments.seconds, 64, run.LOAD_CORE, script, [str(keys)]
            )
            if number < 0:
                continue
            results[name].append(found)
            print(f"{load:28} round {number + 1}  {name:18} {found['cpu_us']:6.2f} us  {found['rps']:8.0f}/s", flush=True)
    return results


def hit_ratios():
    """The lines of a test's table."""
    command = ["cargo", "test", "--quiet", "--lib", "more_is_found_than_by_lru", "--", "--nocapture"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line for line in out.splitlines() if line.startswith("|")]


def median(found, field):
    return statistics.median(it[field] for it in found)


def markdown(costs, memory, ratios, arguments):
    out = [
        "# Results of `make cache-bench`", "",
        f"On {report.machine()}: one worker on one core; wrk and backend on another. Medians of {arguments.rounds} "
        f"interleaved rounds of {arguments.seconds} s with 64 connections; ratios are taken inside a round.", "",
        f"*{FLOOR}* looks nothing up and always gives the same small answer.", "",
        "| load | server | hits a second | CPU µs a hit | × NGINX |", "|---|---|--:|--:|--:|",
    ]
    for load, results in costs.items():
        for name, found in results.items():
            pairs = zip(found, results["NGINX"])
            times = statistics.median(a["cpu_us"] / b["cpu_us"] for a, b in pairs)
            rate, spent = median(found, "rps"), median(found, "cpu_us")
            out.append(f"| {load} | {name} | {rate:,.0f} | {spent:.2f} | {times:.2f} |")
    out += [
        "", f"Memory for each of {arguments.objects:,} answers of 128 bytes, header and body included; NGINX has the "
        "answers themselves in files:", "", "| server | bytes an answer |", "|---|--:|",
    ]
    out += [f"| {name} | {found:,.0f} |" for name, found in memory.items()]
    out += ["", "Answers found, of requests by Zipf's law; by the gateway's own code:", "", *ratios]
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=4, help="of load in a round")
    parser.add_argument("--objects", type=int, default=50_000, help="answers kept while memory is measured")
    parser.add_argument("--program", default="target/release/tollgate")
    parser.add_argument("--results", type=Path, help="file to write")
    arguments = parser.parse_args()
    kinds = {
        "Tollgate": tollgate(arguments.program, False),
        "Tollgate with disk": tollgate(arguments.program, True),
        "NGINX": nginx,
        "Varnish": varnish,
        FLOOR: floor,
    }
    running = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # The workers of NGINX and Varnish may be another user's.
        folder.chmod(0o755)
        try:
            upstream, address = backend(folder)
            running.append(upstream)
            servers = {}
            for number, (name, start) in enumerate(kinds.items()):
                servers[name] = start(folder, address, f"server-{number}")
                running.append(servers[name])
            memory = {}
            for name, server in servers.items():
                if name == FLOOR:
                    continue
                fill(server, 100)
                before = server.memory()
                fill(server, arguments.objects)
                memory[name] = (server.memory() - before) / (arguments.objects - 100)
                print(f"{name:18} {memory[name]:8.0f} bytes an answer", flush=True)
            costs = {load: rounds(servers, load, arguments) for load in LOADS}
        finally:
            for server in reversed(running):
                server.stop()
    text = markdown(costs, memory, hit_ratios(), arguments)
    print("\n" + text)
    if arguments.results:
        arguments.results.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
