"""What an independent receiver of OTLP says that it got from Backstay, read from its debug log.

The log has one block for each span, event and data point; a line `-> name: Type(value)` for each
attribute. Backstay's own tests compare every attribute; here it counts that somebody else reads them.
"""

import json
import os
import pathlib
import re
import time
import unittest
import urllib.error
import urllib.request

URL = os.environ["BACKSTAY_URL"]
LOG = pathlib.Path(os.environ["RECEIVER_LOG"])
SERVICE = os.environ["SERVICE_NAME"]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SECRET = "the-secret-question"
# How long something may take to arrive, in seconds.
PATIENCE = 30

ATTRIBUTE = re.compile(r"\s*-> ([\w.]+): (?:Str|Int|Double|Bool)\((.*)\)$")
FIELD = re.compile(r"\s*(Trace ID|Parent ID|Span ID|ID|Name|Kind|Status code|EventName)\s*: (.*)$")
METRIC = re.compile(r"\s*-> Name: (\S+)$")


def ask(path, body, headers=None):
    """The headers and the text of an answer, whatever its status."""
    headers = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def chat(call, headers=None, **more):
    messages = [{"role": "user", "content": SECRET}]
    return ask("/v1/chat/completions", {"model": call, "messages": messages, **more}, headers)


def blocks(kind):
    """Every block that begins with `kind #`, as fields and attributes."""
    found = []
    here = None
    for line in LOG.read_text(errors="replace").splitlines():
        if re.match(rf"{kind} #\d+", line):
            here = {}
            found.append(here)
        elif re.match(r"\w+ #\d+$", line):
            here = None
        elif here is not None:
            match = ATTRIBUTE.match(line) or FIELD.match(line)
            if match:
                here[match[1]] = match[2]
    return found


def until(what, look):
    """What `look` finds, once it finds something."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not arrive; the receiver's log is {LOG}")


def spans_of(call_id):
    """The span of a call and those below it, once the call's own has arrived."""
    spans = blocks("Span")
    own = [span for span in spans if span.get("backstay.call.id") == call_id]
    return own and (own[0], [span for span in spans if span.get("Parent ID") == own[0]["ID"]])


class Export(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        cls.good = chat("extract", parent)
        cls.failed = chat("fails")
        cls.stream = chat("chat", {"traceparent": f"00-{TRACE}-{PARENT}-01"}, stream=True)
        cls.unsampled = chat("chat", {"traceparent": f"00-{TRACE}-{PARENT}-00"})
        cls.ids = {
            name: getattr(cls, name)[1]["x-backstay-call-id"]
            for name in ("good", "failed", "stream", "unsampled")
        }
        verdict = {"call_id": cls.ids["good"], "ok": True, "score": 0.75}
        assert ask("/v1/outcomes", verdict)[0] == 202

    def arrived(self, name):
        return until(f"the span of the call {name}", lambda: spans_of(self.ids[name]))

    def test_the_call_is_a_child_of_the_clients_span_with_its_attempts_below(self):
        self.assertEqual(self.good[0], 200, self.good)
        call, attempts = self.arrived("good")
        self.assertEqual((call["Trace ID"], call["Parent ID"]), (TRACE, PARENT))
        self.assertEqual((call["Name"], call["Kind"]), ("chat extract/ok", "SPAN_KIND_CLIENT"))
        self.assertEqual(call["gen_ai.operation.name"], "chat")
        self.assertEqual(call["gen_ai.request.model"], "extract/ok")
        self.assertEqual(call["feature_flag.result.variant"], "stable")
        self.assertGreater(int(call["gen_ai.usage.output_tokens"]), 0)
        self.assertNotIn("Status code", call)
        self.assertEqual(
            [span["Name"] for span in attempts], ["attempt sim/extract/500", "attempt sim/extract/ok"]
        )
        self.assertTrue(all(span["Trace ID"] == TRACE for span in attempts))
        self.assertEqual(attempts[0]["Status code"], "STATUS_CODE_ERROR")
        self.assertEqual(attempts[0]["http.response.status_code"], "500")
        self.assertEqual(attempts[0]["error.type"], "upstream_error")
        self.assertNotIn("Status code", attempts[1])

    def test_a_failed_call_is_an_error_in_a_trace_that_has_its_id(self):
        self.assertEqual(self.failed[0], 502, self.failed)
        call, attempts = self.arrived("failed")
        self.assertEqual(call["Status code"], "STATUS_CODE_ERROR")
        self.assertEqual(call["error.type"], "upstream_error")
        self.assertEqual(call["Trace ID"], self.ids["failed"].replace("-", ""))
        self.assertEqual(len(attempts), 1)

    def test_a_stream_tells_when_it_began(self):
        self.assertIn("[DONE]", self.stream[2])
        call, attempts = self.arrived("stream")
        self.assertEqual(call["Trace ID"], TRACE)
        self.assertEqual(call["gen_ai.request.stream"], "true")
        self.assertGreater(float(call["gen_ai.response.time_to_first_chunk"]), 0)
        self.assertEqual(len(attempts), 1)

    def test_the_verdicts_are_events_of_the_call(self):
        call, _ = self.arrived("good")
        mine = lambda: [e for e in blocks("LogRecord") if e.get("Span ID") == call["ID"]]
        events = until("the events", lambda: len(mine()) >= 3 and mine())
        self.assertTrue(all(event["EventName"] == "gen_ai.evaluation.result" for event in events))
        judged = {
            event["gen_ai.evaluation.name"]: event["gen_ai.evaluation.score.value"]
            for event in events
        }
        self.assertEqual(judged, {"parsed": "1", "schema_valid": "1", "consumer": "0.75"})

    def test_metrics_count_every_call_sampled_or_not(self):
        def counted():
            names = {match[1] for line in LOG.read_text().splitlines() if (match := METRIC.match(line))}
            points = blocks("NumberDataPoints")
            calls = {p["backstay.call"] for p in points if "backstay.outcome" in p and "backstay.call" in p}
            return calls >= {"extract", "fails", "chat"} and names

        names = until("the metrics", counted)
        for name in (
            "gen_ai.client.operation.duration",
            "gen_ai.client.operation.time_to_first_chunk",
            "gen_ai.client.token.usage",
            "backstay.calls",
            "backstay.attempts",
        ):
            self.assertIn(name, names)

    def test_what_the_client_does_not_record_and_what_was_said_is_not_sent(self):
        for name in ("good", "failed", "stream"):
            self.arrived(name)
        log = LOG.read_text(errors="replace")
        self.assertNotIn(self.ids["unsampled"], log)
        self.assertNotIn(SECRET, log)

    def test_the_resource_is_what_the_environment_says(self):
        self.arrived("good")
        log = LOG.read_text(errors="replace")
        self.assertIn(f"-> service.name: Str({SERVICE})", log)
        self.assertIn("-> deployment.environment.name: Str(the lane)", log)

    def test_the_server_says_what_arrived(self):
        for name in ("good", "failed", "stream"):
            self.arrived(name)

        def told():
            with urllib.request.urlopen(f"{URL}/readyz", timeout=PATIENCE) as answer:
                otlp = json.load(answer)["otlp"]
            # 3 + 2 + 2 spans, 2 + 1 events.
            return otlp["exported"] == 10 and otlp

        self.assertEqual(
            until("the count", told), {"exported": 10, "dropped": 0, "last_error": None}
        )


if __name__ == "__main__":
    unittest.main()
