"""Tables and the plot of what was measured."""

import datetime
import os
import platform
from pathlib import Path

TITLES = {
    "bare": "Bare proxying",
    "policies": "Rate limit by address, JWT (HS256), access log",
    "routes": "One route among 1,000",
    "full": "The full pipeline: a route among 1,000, rate limit, JWT, access log",
}


def machine():
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        platform.machine(),
    )
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


def markdown(results, servers, arguments):
    out = [
        "# Results of `make bench`",
        "",
        f"{datetime.date.today()} on {machine()}. Each server has one worker on one core; wrk "
        f"({arguments.connections} connections) and the backend (NGINX, 128 bytes) are on another. "
        f"{arguments.rounds} interleaved rounds of {arguments.seconds} s.",
        "",
        "*CPU* is processor time per request, user and system, by the kernel's accounting of the "
        "server's process, in the best round. *× floor* is the median of the ratios to the empty proxy "
        "of the same round. *Instructions* are user-space instructions per request on one kept "
        "connection under callgrind, which do not drift with the machine's noise. Latencies are those of "
        "the best round, at full load.",
    ]
    for scenario, rows in results.items():
        out += [
            "", f"## {TITLES[scenario]}", "",
            "| | CPU µs | × floor | instructions | requests/s | p50 ms | p99 ms | peak MiB |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for name, row in sorted(rows.items(), key=lambda it: it[1]["ratio"]):
            count = f"{row['instructions']:,.0f}" if row["instructions"] else "–"
            out.append(
                f"| {name} | {row['cpu_us']:.1f} | {row['ratio']:.2f} | {count} | {row['rps']:,.0f} | "
                f"{row['p50_ms']:.2f} | {row['p99_ms']:.2f} | {row['peak_mib']:.0f} |"
            )
    lacking = [f"{kind.name}: without {kind.lacks}" for kind in servers if kind.lacks]
    if lacking:
        out += ["", "Where a peer can't do the work, it is measured without it. " + "; ".join(lacking) + "."]
    out += ["", "A fleet of gateways that share limits is simulated: [results](fleet/RESULTS.md)."]
    return "\n".join(out) + "\n"


def plot(results, path):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(results), 1, figsize=(8, 2.6 * len(results)), constrained_layout=True)
    for axis, (scenario, rows) in zip([axes] if len(results) == 1 else axes, results.items()):
        rows = sorted(rows.items(), key=lambda it: -it[1]["cpu_us"])
        names = [name for name, _ in rows]
        values = [row["cpu_us"] for _, row in rows]
        colours = ["#d9480f" if name == "Tollgate" else "#adb5bd" for name in names]
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, fmt="%.1f", padding=3)
        axis.set_title(TITLES[scenario], fontsize=10, loc="left")
        axis.set_xlabel("processor time per request, µs (less is better)", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
