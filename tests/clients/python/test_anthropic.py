"""Anthropic's own SDK against Backstay: answers, streams, tools, and every kind of failure.

A target whose model names a fault is asked once in a test run, so that no breaker is open yet.
"""

import json
import os
import unittest
from typing import Literal

import anthropic
from anthropic import Anthropic
from pydantic import BaseModel

import expect

SAY_HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


class Ticket(BaseModel):
    priority: Literal["low", "normal", "urgent"]
    summary: str


def client(base_url=None, key="unused"):
    return Anthropic(base_url=base_url or expect.url(), api_key=key, max_retries=0, timeout=30)


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


class Case(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)

    def options(self, model, options):
        return {"model": model, "max_tokens": 200, "messages": SAY_HELLO, **options}

    def ask(self, model, **options):
        return self.client.messages.create(**self.options(model, options))

    def ask_raw(self, model, **options):
        return self.client.messages.with_raw_response.create(**self.options(model, options))


class Answers(Case):
    def test_a_plain_target(self):
        for model in ("upa/ok", "up/ok", "sim/ok"):
            with self.subTest(model):
                raw = self.ask_raw(model)
                expect.headers(self, raw.headers, outcome="ok", variant="direct", degraded="none")
                message = raw.parse()
                self.assertEqual((message.type, message.role), ("message", "assistant"))
                self.assertTrue(text_of(message))
                self.assertEqual(message.stop_reason, "end_turn")
                self.assertGreater(message.usage.input_tokens, 0)
                self.assertGreater(message.usage.output_tokens, 0)

    def test_a_system_prompt(self):
        self.assertTrue(text_of(self.ask("chat-anthropic", system="Be brief.")))

    def test_a_call_with_inputs(self):
        raw = self.ask_raw("triage", extra_body={"backstay": {"inputs": expect.TICKET}})
        expect.headers(self, raw.headers, outcome="ok", variant="stable")
        self.assertRegex(raw.headers["x-backstay-release"], r"^triage@\d+$")
        expect.triage(self, json.loads(text_of(raw.parse())))

    def test_a_pinned_release(self):
        inputs = {"backstay": {"inputs": expect.TICKET}}
        release = self.ask_raw("triage", extra_body=inputs).headers["x-backstay-release"]
        pinned = self.ask_raw(release, extra_body=inputs)
        expect.headers(self, pinned.headers, release=release, variant="pinned", outcome="ok")

    def test_the_static_answer(self):
        raw = self.ask_raw("triage-static", extra_body={"backstay": {"inputs": expect.TICKET}})
        expect.headers(self, raw.headers, degraded="static", outcome="overloaded")
        value = json.loads(text_of(raw.parse()))
        self.assertEqual(value, {"priority": "normal", "summary": "Not yet sorted."})


class Streams(Case):
    def test_the_message_is_assembled(self):
        for model in ("upa/ok", "up/ok", "chat", "sim/ok"):
            with self.subTest(model):
                with self.client.messages.stream(**self.options(model, {})) as stream:
                    text = "".join(stream.text_stream)
                    message = stream.get_final_message()
                    # How it ends is not known yet when the headers are sent.
                    expect.headers(self, stream.response.headers, outcome="pending")
                self.assertTrue(text)
                self.assertEqual(text_of(message), text)
                self.assertEqual(message.stop_reason, "end_turn")
                self.assertGreater(message.usage.output_tokens, 0)

    def test_the_stream_of_a_degraded_call(self):
        with self.client.messages.stream(**self.options("chat-message", {})) as stream:
            expect.headers(self, stream.response.headers, degraded="message", outcome="overloaded")
            self.assertIn("overloaded", text_of(stream.get_final_message()))

    def check_failing(self, model, kind):
        text = ""
        with self.assertRaises(anthropic.APIError) as caught:
            for event in self.ask(model, stream=True):
                if event.type == "content_block_delta":
                    text += event.delta.text
        self.assertTrue(text, "the failure came after the first content")
        self.assertEqual(caught.exception.body["type"], "error")
        error = caught.exception.body["error"]
        self.assertEqual(error["type"], kind)
        self.assertTrue(error["message"])
        self.assertTrue(error["call_id"])

    def test_an_error_in_the_middle(self):
        self.check_failing("upa/error-event", "overloaded_error")

    def test_an_error_in_the_middle_over_another_protocol(self):
        self.check_failing("up/error-event", "api_error")

    def test_a_stream_that_is_cut(self):
        self.check_failing("upa/cut-stream", "api_error")

    def test_a_stream_that_fails_before_its_first_content_is_an_error_status(self):
        with self.assertRaises(anthropic.InternalServerError) as caught:
            self.ask("up/500", stream=True)
        self.assertEqual(caught.exception.status_code, 502)


class Tools(Case):
    def check_round_trip(self, model):
        choice = {"type": "tool", "name": "get_weather"}
        asked = self.ask(model, tools=[WEATHER], tool_choice=choice)
        self.assertEqual(asked.stop_reason, "tool_use")
        use = next(block for block in asked.content if block.type == "tool_use")
        self.assertEqual(use.name, "get_weather")
        self.assertIsInstance(use.input["city"], str)
        result = {"type": "tool_result", "tool_use_id": use.id, "content": "22 degrees, sunny"}
        said = [
            *SAY_HELLO,
            {"role": "assistant", "content": [block.to_dict() for block in asked.content]},
            {"role": "user", "content": [result]},
        ]
        answer = self.ask(model, messages=said, tools=[WEATHER], tool_choice={"type": "none"})
        self.assertTrue(text_of(answer))

    def test_there_and_back(self):
        self.check_round_trip("upa/ok")

    def test_there_and_back_over_another_protocol(self):
        self.check_round_trip("up/ok")

    def test_in_a_stream(self):
        options = {"tools": [WEATHER], "tool_choice": {"type": "any"}}
        for model in ("upa/ok", "up/ok"):
            with self.subTest(model):
                with self.client.messages.stream(**self.options(model, options)) as stream:
                    message = stream.get_final_message()
                use = next(block for block in message.content if block.type == "tool_use")
                self.assertIsInstance(use.input["city"], str)
                self.assertEqual(message.stop_reason, "tool_use")


class StructuredOutput(Case):
    def parse(self, model, **options):
        options = {"output_format": Ticket, **self.options(model, options)}
        return self.client.messages.parse(**options)

    def test_a_schema_of_the_client(self):
        for model in ("upa/ok", "up/ok", "chat"):
            with self.subTest(model):
                self.assertIsInstance(self.parse(model).parsed_output, Ticket)

    def test_a_schema_of_the_release(self):
        for call in ("triage", "triage-fenced", "triage-static"):
            with self.subTest(call):
                extra = {"backstay": {"inputs": expect.TICKET}}
                answer = self.parse(call, messages=[], extra_body=extra)
                self.assertIsInstance(answer.parsed_output, Ticket)

    def test_a_refusal(self):
        for model in ("upa/refusal", "up/refusal"):
            with self.subTest(model):
                raw = self.ask_raw(model)
                expect.headers(self, raw.headers, outcome="refused")
                self.assertEqual(raw.parse().stop_reason, "refusal")


class Failures(Case):
    def check(self, error, status, failure, model, **options):
        with self.assertRaises(error) as caught:
            self.ask(model, **options)
        raised = caught.exception
        self.assertEqual(raised.status_code, status)
        expect.headers(self, raised.response.headers, outcome=failure, degraded="none")
        self.assertEqual(raised.body["type"], "error")
        details = raised.body["error"]
        self.assertTrue(details["type"])
        self.assertTrue(details["message"])
        self.assertEqual(details["call_id"], raised.response.headers["x-backstay-call-id"])
        for attempt in details["attempts"]:
            self.assertEqual(set(attempt), {"target", "failure", "ms"})
        return raised

    def test_a_wrong_request(self):
        self.check(anthropic.BadRequestError, 400, "bad_request", "upa/400")

    def test_a_prompt_that_is_too_long(self):
        self.check(anthropic.BadRequestError, 400, "context_length", "upa/400-context-length")

    def test_an_upstream_error(self):
        raised = self.check(anthropic.InternalServerError, 502, "upstream_error", "upa/500")
        self.assertEqual(raised.body["error"]["attempts"][0]["target"], "upa/500")

    def test_an_overloaded_provider(self):
        self.check(anthropic.APIStatusError, 503, "overloaded", "upa/529")

    def test_the_providers_401_is_not_the_clients(self):
        self.check(anthropic.InternalServerError, 502, "upstream_auth", "upa/401")

    def test_a_rate_limit_says_when_to_come_back(self):
        # The provider asks for two seconds, which this deadline does not have.
        within = {"x-backstay-deadline-ms": "1500"}
        raised = self.check(
            anthropic.RateLimitError, 429, "rate_limited", "upa/429-retry-after", extra_headers=within
        )
        self.assertGreater(float(raised.response.headers["retry-after"]), 0)

    def test_a_provider_that_hangs(self):
        within = {"x-backstay-deadline-ms": "700"}
        self.check(
            anthropic.APIStatusError, 504, "timeout", "upa/hang-headers", extra_headers=within
        )

    def test_an_empty_answer_is_never_delivered(self):
        self.check(anthropic.InternalServerError, 502, "empty", "upa/empty-content")

    def test_an_unknown_call(self):
        with self.assertRaises(anthropic.NotFoundError) as caught:
            self.ask("no-such-call")
        self.assertIn("no-such-call", caught.exception.body["error"]["message"])
        expect.headers(self, caught.exception.response.headers)


class Keys(unittest.TestCase):
    def ask(self, key):
        with client(expect.url("BACKSTAY_URL_WITH_KEYS"), key) as asking:
            return asking.messages.create(model="upa/ok", max_tokens=50, messages=SAY_HELLO)

    def test_a_wrong_key_is_refused(self):
        with self.assertRaises(anthropic.AuthenticationError) as caught:
            self.ask("bsk-wrong")
        expect.headers(self, caught.exception.response.headers)

    def test_the_right_key_is_not(self):
        self.assertTrue(text_of(self.ask(os.environ["BACKSTAY_TEST_KEY"])))


if __name__ == "__main__":
    unittest.main()
