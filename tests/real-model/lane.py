"""Real answers of a real model through Backstay: each is valid, repaired, or a named failure.

What the model says is not asserted, since nobody scripted it. That no answer is empty, unnamed or
against its schema is: those are Backstay's promises.
"""

import collections
import json
import os
import pathlib
import sys
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

Seen = collections.namedtuple("Seen", "outcome degraded label")


class Broken(Exception):
    """An answer that breaks a promise."""


def require(holds, what):
    if not holds:
        raise Broken(what)


def checked(outcome, degraded, value):
    """An answer with status 200 that is no message has to satisfy the schema of the call."""
    require(outcome in {"ok", "repaired"} | FAILURES, f"outcome {outcome!r} is not in the closed set")
    if degraded == "message":
        require(isinstance(value, str) and value, "an empty message")
        return Seen(outcome, degraded, None)
    require(degraded in ("none", "stale", "static"), f"degraded is {degraded!r}")
    require(
        isinstance(value, dict) and set(value) == {"sentiment"} and value["sentiment"] in LABELS,
        f"the answer breaks its schema: {value!r}",
    )
    return Seen(outcome, degraded, value["sentiment"])


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
    return Seen(name, "error", None)


def native(url, review):
    body = json.dumps({"inputs": {"review": review}, "stream": False}).encode()
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
    degraded = headers.get("x-backstay-degraded")
    return checked(outcome, degraded, answer["text"] if degraded == "message" else answer["output"])


def openai_stream(url, review):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=40) as client:
        try:
            stream = client.chat.completions.create(
                model=CALL,
                messages=[],
                stream=True,
                extra_body={"backstay": {"inputs": {"review": review}}},
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
    degraded = headers.get("x-backstay-degraded")
    value = text if degraded == "message" else json.loads(text)
    return checked(headers.get("x-backstay-outcome"), degraded, value)


def main():
    url = os.environ["BACKSTAY_URL"]
    reviews = json.loads(pathlib.Path(__file__).with_name("reviews.json").read_text())
    passed, broken = 0, []
    table = collections.Counter()
    right = collections.Counter()
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
                passed += 1
                table[ask.__name__, seen.outcome, seen.degraded] += 1
                right[ask.__name__] += seen.label == row["sentiment"]
    print(f"{'endpoint':<16}{'outcome':<16}{'answered with':<16}{'answers':>8}")
    for (endpoint, outcome, degraded), count in sorted(table.items()):
        answered = {"none": "the answer"}.get(degraded, degraded)
        print(f"{endpoint:<16}{outcome:<16}{answered:<16}{count:>8}")
    for endpoint, count in right.items():
        print(f"{endpoint}: {count} of {len(reviews)} labelled as a person would")
    answered = sum(count for (_, outcome, _), count in table.items() if outcome in ("ok", "repaired"))
    if not answered:
        broken.append("not one of the answers held: the model or the way to it is broken")
    print(*broken, sep="\n")
    print(f"{passed} passed, {len(broken)} failed")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
