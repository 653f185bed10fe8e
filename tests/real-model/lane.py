"""Real answers of a real model through Backstay: each is valid, repaired, or a named failure.

What the model says is not asserted, since nobody scripted it. That no answer is empty, unnamed or
against its schema is: those are Backstay's promises. So is that the log tells of each call what its
client was told; what the model got wrong is read from there.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import openai

CALL = "review-sentiment"
LABELS = ("positive", "negative", "neutral")
# How an answer can end. `cancelled` and `consumer` are no answers.
FAILURES = {
    "timeout", "connection", "rate_limited", "overloaded", "upstream_error", "upstream_auth",
    "bad_request", "context_length", "content_filter", "refused", "empty", "truncated", "malformed",
    "schema", "check", "circuit_open", "budget",
}
# Failures that a healthy local model has no reason to show; if it does, something between is broken.
BROKEN = {"connection", "upstream_error", "upstream_auth", "bad_request", "context_length"}
AT_ONCE = 2
# How long the log may take to hold the last call, in seconds.
SETTLED = 20
# Mistakes of a kind that are shown.
SHOWN = 3

# What the model is shown before the review that it is asked about.
EXAMPLES = [
    {"role": "user", "content": "Review: The cake was wonderful."},
    {"role": "assistant", "content": '{"sentiment": "positive", "reason": "wonderful"}'},
    {"role": "user", "content": "Review: The cake was stale and dry."},
    {"role": "assistant", "content": '{"sentiment": "negative", "reason": "stale and dry"}'},
]

Seen = collections.namedtuple("Seen", "call_id outcome degraded label")


class Broken(Exception):
    """An answer that breaks a promise."""


def require(holds, what):
    if not holds:
        raise Broken(what)


def checked(headers, value):
    """An answer with status 200 that is no message has to satisfy the schema of the call."""
    call_id, outcome, degraded = (
        headers.get(f"x-backstay-{name}") for name in ("call-id", "outcome", "degraded")
    )
    require(outcome in {"ok", "repaired"} | FAILURES, f"outcome {outcome!r} is not in the closed set")
    if degraded == "message":
        require(isinstance(value, str) and value, "an empty message")
        return Seen(call_id, outcome, degraded, None)
    require(degraded in ("none", "stale", "static"), f"degraded is {degraded!r}")
    require(
        isinstance(value, dict)
        and set(value) == {"sentiment", "reason"}
        and value["sentiment"] in LABELS
        and isinstance(value["reason"], str)
        and 1 <= len(value["reason"]) <= 60,
        f"the answer breaks its schema: {value!r}",
    )
    return Seen(call_id, outcome, degraded, value["sentiment"])


def failed(headers, error):
    """An error has to be named, in words and in the closed set."""
    require(isinstance(error, dict), f"an error without a body: {error!r}")
    name = error.get("type")
    require(name in FAILURES, f"error type {name!r} is not in the closed set")
    require(error.get("message"), "an error without a message")
    require(error.get("call_id"), "an error without a call id")
    if headers is not None:
        require(headers.get("x-backstay-outcome") == name, "header and body name different failures")
    require(name not in BROKEN, f"{name}: {error['message']}")
    return Seen(error["call_id"], name, "none", None)


def asked(review):
    """The messages that follow the release's own, and what its template wants."""
    return [*EXAMPLES, {"role": "user", "content": f"Review: {review}"}], {"labels": LABELS}


def native(url, review):
    messages, inputs = asked(review)
    body = json.dumps({"inputs": inputs, "messages": messages, "stream": False}).encode()
    request = urllib.request.Request(
        f"{url}/v1/calls/{CALL}", body, {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=40) as response:
            headers, answer = response.headers, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return failed(error.headers, json.load(error).get("error"))
    outcome = headers.get("x-backstay-outcome")
    require(outcome == answer["outcome"], "header and body name different outcomes")
    require(answer["text"], "an empty text")
    require(answer["attempts"], "no attempts")
    return checked(headers, answer["text" if answer["degraded"] == "message" else "output"])


def openai_stream(url, review):
    messages, inputs = asked(review)
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=40) as client:
        try:
            stream = client.chat.completions.create(
                model=CALL,
                messages=messages,
                stream=True,
                extra_body={"backstay": {"inputs": inputs}},
            )
            text = ""
            for chunk in stream:
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
        except openai.APIStatusError as error:
            return failed(error.response.headers, error.body)
        except openai.APIError as error:
            return failed(None, error.body)
    headers = stream.response.headers
    require(text, "an empty stream")
    message = headers.get("x-backstay-degraded") == "message"
    return checked(headers, text if message else json.loads(text))


def backstay(*args):
    """What the product's own command prints, a JSON object a line."""
    command = [os.environ["BACKSTAY_BIN"], *args, "--json", "--dir", os.environ["BACKSTAY_DIR"]]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=30)
    return [json.loads(line) for line in ran.stdout.splitlines()]


def logged(count):
    """The log, once it holds `count` calls: it is written behind the answers."""
    until = time.monotonic() + SETTLED
    while True:
        rows = backstay("log", "--call", CALL, "--limit", "1000")
        if len(rows) >= count or time.monotonic() > until:
            return {row["id"]: row for row in rows}
        time.sleep(0.1)


def differences(answers, log):
    """Where the log does not say what the client was told."""
    for seen in answers:
        row = log.get(seen.call_id)
        told = (seen.outcome, seen.degraded)
        if row is None:
            yield f"{seen.call_id} ended as {seen.outcome} and is not in the log"
        elif (row["outcome"], row["degraded"]) != told:
            yield f"{seen.call_id}: the client was told {told}, the log {row['outcome']!r}"
    if len(log) != len(answers):
        yield f"{len(answers)} calls were made and {len(log)} are in the log"


def mistakes(log):
    """What was wrong with the attempts that were not good, by class, with examples."""
    kinds = collections.defaultdict(list)
    for row in log.values():
        if row["outcome"] == "ok":
            continue
        [stored] = backstay("show", row["id"])
        record = stored["record"]
        for attempt in record["attempts"]:
            if attempt["failure"]:
                kinds[attempt["failure"]].append((attempt, record))
        if row["outcome"] == "repaired" and not any(a["failure"] for a in record["attempts"]):
            kinds["mended without asking again"].append((None, record))
    return kinds


def print_log(log):
    print("\nWhat the log says:")
    print(f"{'outcome':<16}{'calls':>6}{'attempts':>10}{'slowest':>10}")
    for outcome in sorted({row["outcome"] for row in log.values()}):
        rows = [row for row in log.values() if row["outcome"] == outcome]
        slowest = max(row["latency_us"] for row in rows) / 1e6
        print(f"{outcome:<16}{len(rows):>6}{sum(r['attempts'] for r in rows):>10}{slowest:>8.1f} s")
    for kind, found in sorted(mistakes(log).items()):
        print(f"\n{kind}, {len(found)} times:")
        for attempt, record in found[:SHOWN]:
            if attempt:
                print(f"  {attempt['message']}")
            if not attempt or record["attempts"][-1] is attempt:
                print(f"    answer: {record['rejected'] or record['answer']}")
    print()


def main():
    url = os.environ["BACKSTAY_URL"]
    reviews = json.loads(pathlib.Path(__file__).with_name("reviews.json").read_text())
    answers, broken = [], []
    table, right = collections.Counter(), collections.Counter()
    for ask in (native, openai_stream):
        def one(row):
            try:
                return ask(url, row["review"]), None
            except (Broken, OSError, ValueError, KeyError, openai.OpenAIError) as error:
                return None, f"{ask.__name__}: {row['review']}: {type(error).__name__}: {error}"
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for row, (seen, mistake) in zip(reviews, pool.map(one, reviews)):
                if mistake:
                    broken.append(mistake)
                    continue
                answers.append(seen)
                table[ask.__name__, seen.outcome, seen.degraded] += 1
                right[ask.__name__] += seen.label == row["sentiment"]
    passed = len(answers)
    print(f"{'endpoint':<16}{'outcome':<16}{'degraded':<16}{'answers':>8}")
    for (endpoint, outcome, degraded), count in sorted(table.items()):
        print(f"{endpoint:<16}{outcome:<16}{degraded:<16}{count:>8}")
    for endpoint, count in right.items():
        print(f"{endpoint}: {count} of {len(reviews)} labelled as a person would")
    if sum(seen.outcome in ("ok", "repaired") for seen in answers) * 2 < len(answers):
        broken.append("not half of the answers held: the prompt, the model or the way to it is bad")
    log = logged(len(answers))
    if not broken:
        broken += differences(answers, log)
    print_log(log)
    print(*broken, sep="\n")
    print(f"{passed} passed, {len(broken)} failed")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
