"""What the suite found, as a page."""

import fnmatch
import json
from collections import Counter
from pathlib import Path

REASONS = Path(__file__).parent / "reasons.json"
KINDS = ["required", "optimal", "check"]
# What is no verdict: the test could not be made, or another one that it builds upon failed.
UNDECIDED = {"setup_fail", "harness_fail", "dependency_fail", "retry"}


def counts(tests, column):
    """How many tests of each kind ended how."""
    found = {kind: Counter() for kind in KINDS}
    for test in tests:
        outcome = test["outcomes"][column]
        found[test["kind"]]["undecided" if outcome in UNDECIDED else outcome] += 1
    return found


def row(name, version, source, found):
    required, optimal, check = (found[kind] for kind in KINDS)
    cells = [
        name, version, source,
        f"**{required['pass']}**", required["fail"], required["undecided"],
        f"**{optimal['pass']}**", optimal["optional_fail"], optimal["undecided"],
        f"{check['yes']} / {check['no']}",
    ]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def is_short(test, column):
    """Whether a test is not passed, and says something of a cache's quality."""
    return test["kind"] != "check" and test["outcomes"][column] not in ("pass", "untested")


def explained(tests, reasons):
    """Reasons with the tests that each is for, and the tests that none is for."""
    groups, rest = [], list(tests)
    for reason in reasons:
        members = [
            test for test in rest if any(fnmatch.fnmatchcase(test["id"], it) for it in reason["tests"])
        ]
        groups.append((reason, members))
        rest = [test for test in rest if test not in members]
    return groups, rest


def reasons_table(tests, reasons):
    groups, rest = explained([test for test in tests if is_short(test, 0)], reasons)
    lines = ["| test | kind | with other settings | why |", "|---|---|---|---|"]
    for reason, members in groups:
        for number, test in enumerate(members):
            other = "passes" if test["outcomes"][1] == "pass" else "the same"
            kind = "required" if test["kind"] == "required" else "optional"
            why = reason["why"] if number == 0 else "as above"
            lines.append(f"| `{test['id']}` | {kind} | {other} | {why} |")
    lines += [f"| `{test['id']}` | {test['kind']} | | **not known** |" for test in rest]
    return lines, [test["id"] for test in rest]


def behaviours(tests, reasons):
    """What the gateway does where the RFCs leave it open."""
    groups, rest = explained([test for test in tests if test["kind"] == "check"], reasons)
    lines = ["| question | answer | why |", "|---|---|---|"]
    for reason, members in [*groups, ({"why": ""}, rest)]:
        why = reason["why"]
        for test in members:
            plain, other = ("not told" if it in UNDECIDED else it for it in test["outcomes"][:2])
            answer = plain if plain == other else f"{plain}; {other} with the other settings"
            if plain == "yes":
                lines.append(f"| {test['name']} | {answer} | |")
                continue
            lines.append(f"| {test['name']} | {answer} | {why} |")
            why = why and "as above"
    return lines


def markdown(columns, tests, commit, settings):
    """The page, and the tests that nobody has a reason for."""
    reasons = json.loads(REASONS.read_text())
    plain, chosen = settings
    total = Counter(test["kind"] for test in tests if test["outcomes"][0] != "untested")
    out = [
        "# Results of `make cache-conformance`", "",
        f"The public suite [http-tests/cache-tests](https://github.com/http-tests/cache-tests) at `{commit[:12]}`: "
        f"{total['required']} tests of what RFC 9111 requires, {total['optimal']} of what an optimal cache does beside "
        f"that, {total['check']} questions that have no wrong answer. Its authors do not call it a certificate: it "
        "shows how a cache behaves. “Undecided” is a test that could not be made, as when a cache does not keep the "
        "answer that the test is about, or that builds upon one that failed.", "",
        f"Tollgate has `cache: {plain}`, and then `cache: {chosen}`, with `retry: off` both times: the suite counts the "
        "requests that its backend gets. With the first of them it guesses no lifetimes, and no more do peers, where that is "
        "theirs to say ([peers.py](cache-tests/peers.py)); “recorded” are the suite's own results, which its authors made with their "
        "configurations.", "",
        "| cache | version | results | required: pass | fail | undecided | optional: pass | fail | undecided | "
        "questions: yes / no |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for number, (name, version, source, _) in enumerate(columns):
        out.append(row(name, version, source, counts(tests, number)))
    lines, unexplained = reasons_table(tests, reasons)
    out += ["", "## What Tollgate does not pass, and why", "", *lines]
    out += ["", "## What it does where the RFCs leave it open", "", *behaviours(tests, reasons)]
    return "\n".join(out) + "\n", unexplained
