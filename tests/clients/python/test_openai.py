"""OpenAI's own SDK against Backstay: answers, streams, tools, schemas, and every kind of failure.

A target whose model names a fault is asked once in a test run, so that no breaker is open yet.
"""

import json
import os
import unittest
from typing import Literal

import openai
from openai import OpenAI
from pydantic import BaseModel

import expect

SAY_HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Ticket(BaseModel):
    priority: Literal["low", "normal", "urgent"]
    summary: str


def client(**options):
    options = {"base_url": f"{expect.url()}/v1", "api_key": "unused", **options}
    return OpenAI(max_retries=0, timeout=30, **options)


class Case(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)

    def ask(self, model, **options):
        return self.client.chat.completions.create(
            model=model, **{"messages": SAY_HELLO, **options}
        )

    def ask_raw(self, model, **options):
        return self.client.chat.completions.with_raw_response.create(
            model=model, **{"messages": SAY_HELLO, **options}
        )

    def ask_call(self, call, **options):
        return self.ask_raw(
            call, messages=[], extra_body={"backstay": {"inputs": expect.TICKET}}, **options
        )


class Answers(Case):
    def test_a_plain_target(self):
        raw = self.ask_raw("up/ok")
        expect.headers(self, raw.headers, outcome="ok", variant="direct", degraded="none")
        answer = raw.parse()
        self.assertEqual(answer.object, "chat.completion")
        self.assertTrue(answer.choices[0].message.content)
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertGreater(answer.usage.prompt_tokens, 0)
        self.assertGreater(answer.usage.completion_tokens, 0)

    def test_a_target_that_speaks_another_protocol(self):
        answer = self.ask("upa/ok")
        self.assertTrue(answer.choices[0].message.content)
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertGreater(answer.usage.total_tokens, 0)

    def test_a_simulated_target_in_process(self):
        self.assertTrue(self.ask("sim/ok").choices[0].message.content)

    def test_a_call_with_inputs(self):
        raw = self.ask_call("triage")
        expect.headers(self, raw.headers, outcome="ok", variant="stable", degraded="none")
        self.assertRegex(raw.headers["x-backstay-release"], r"^triage@\d+$")
        expect.triage(self, json.loads(raw.parse().choices[0].message.content))

    def test_messages_follow_the_release(self):
        self.assertTrue(self.ask("chat").choices[0].message.content)

    def test_a_pinned_release(self):
        release = self.ask_call("triage").headers["x-backstay-release"]
        pinned = self.ask_call(release)
        expect.headers(self, pinned.headers, release=release, variant="pinned", outcome="ok")
        labelled = self.ask_call("triage@stable")
        expect.headers(self, labelled.headers, release=release, outcome="ok")

    def test_the_release_may_stand_in_a_header(self):
        release = self.ask_call("triage").headers["x-backstay-release"]
        raw = self.ask_call("triage", extra_headers={"x-backstay-release": release.split("@")[1]})
        expect.headers(self, raw.headers, release=release, variant="pinned", outcome="ok")

    def test_the_call_of_a_plain_target_may_be_named(self):
        raw = self.ask_raw("up/ok", extra_headers={"x-backstay-call": "named-by-client"})
        expect.headers(self, raw.headers, outcome="ok")

    def test_a_fallback_is_counted_and_not_degraded(self):
        raw = self.ask_raw("chat-fallback")
        expect.headers(self, raw.headers, outcome="ok", degraded="none")
        self.assertGreaterEqual(int(raw.headers["x-backstay-attempts"]), 2)
        self.assertTrue(raw.parse().choices[0].message.content)

    def test_a_fence_around_the_answer_is_taken_off(self):
        raw = self.ask_call("triage-fenced")
        self.assertIn(raw.headers["x-backstay-outcome"], ("ok", "repaired"))
        expect.triage(self, json.loads(raw.parse().choices[0].message.content))

    def test_models(self):
        ids = {model.id for model in self.client.models.list()}
        self.assertLessEqual({"chat", "triage", "triage-static"}, ids)


class Streams(Case):
    def read(self, stream):
        text, finish, usage = "", None, None
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
        return text, finish, usage

    def test_text_finish_and_usage(self):
        for model in ("up/ok", "upa/ok", "chat", "sim/ok"):
            with self.subTest(model):
                stream = self.ask(model, stream=True, stream_options={"include_usage": True})
                # How it ends is not known yet when the headers are sent.
                expect.headers(self, stream.response.headers, outcome="pending")
                text, finish, usage = self.read(stream)
                self.assertTrue(text)
                self.assertEqual(finish, "stop")
                self.assertGreater(usage.completion_tokens, 0)

    def test_a_schema_holds_in_a_stream_too(self):
        stream = self.ask(
            "triage-fenced",
            messages=[],
            stream=True,
            extra_body={"backstay": {"inputs": expect.TICKET}},
        )
        text, finish, _ = self.read(stream)
        expect.triage(self, json.loads(text))
        self.assertEqual(finish, "stop")

    def test_the_stream_of_a_degraded_call(self):
        stream = self.ask("chat-message", stream=True)
        expect.headers(self, stream.response.headers, degraded="message", outcome="overloaded")
        text, finish, _ = self.read(stream)
        self.assertIn("overloaded", text)
        self.assertEqual(finish, "stop")

    def check_failing(self, model, failure):
        text = ""
        with self.assertRaises(openai.APIError) as caught:
            for chunk in self.ask(model, stream=True):
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
        self.assertTrue(text, "the failure came after the first content")
        self.assertEqual(caught.exception.body["type"], failure)
        self.assertTrue(caught.exception.body["call_id"])

    def test_an_error_in_the_middle(self):
        self.check_failing("up/error-event", "upstream_error")

    def test_an_error_in_the_middle_over_another_protocol(self):
        self.check_failing("upa/error-event", "overloaded")

    def test_a_stream_that_is_cut(self):
        self.check_failing("up/cut-stream", "truncated")

    def test_a_stream_that_fails_before_its_first_content_is_an_error_status(self):
        with self.assertRaises(openai.InternalServerError) as caught:
            self.ask("upa/500", stream=True)
        self.assertEqual(caught.exception.status_code, 502)


class Tools(Case):
    def check_round_trip(self, model):
        choice = {"type": "function", "function": {"name": "get_weather"}}
        asked = self.ask(model, tools=[WEATHER], tool_choice=choice).choices[0]
        self.assertEqual(asked.finish_reason, "tool_calls")
        call = asked.message.tool_calls[0]
        self.assertEqual(call.function.name, "get_weather")
        self.assertIsInstance(json.loads(call.function.arguments)["city"], str)
        said = [
            *SAY_HELLO,
            asked.message.to_dict(),
            {"role": "tool", "tool_call_id": call.id, "content": "22 degrees, sunny"},
        ]
        answer = self.ask(model, messages=said, tools=[WEATHER], tool_choice="none")
        self.assertTrue(answer.choices[0].message.content)

    def test_there_and_back(self):
        self.check_round_trip("up/ok")

    def test_there_and_back_over_another_protocol(self):
        self.check_round_trip("upa/ok")

    def test_in_a_stream(self):
        for model in ("up/ok", "upa/ok"):
            with self.subTest(model):
                names, arguments, finish = "", "", None
                for chunk in self.ask(model, tools=[WEATHER], tool_choice="required", stream=True):
                    for choice in chunk.choices:
                        finish = choice.finish_reason or finish
                        for call in choice.delta.tool_calls or []:
                            names += call.function.name or ""
                            arguments += call.function.arguments or ""
                self.assertEqual(names, "get_weather")
                self.assertIsInstance(json.loads(arguments)["city"], str)
                self.assertEqual(finish, "tool_calls")


class StructuredOutput(Case):
    def test_a_schema_of_the_client(self):
        for model in ("up/ok", "upa/ok", "chat"):
            with self.subTest(model):
                answer = self.client.chat.completions.parse(
                    model=model, messages=SAY_HELLO, response_format=Ticket
                )
                self.assertIsInstance(answer.choices[0].message.parsed, Ticket)

    def test_a_schema_of_the_release(self):
        answer = self.client.chat.completions.parse(
            model="triage",
            messages=[],
            response_format=Ticket,
            extra_body={"backstay": {"inputs": expect.TICKET}},
        )
        self.assertIsInstance(answer.choices[0].message.parsed, Ticket)

    def test_an_answer_in_a_fence_is_parsed_too(self):
        answer = self.client.chat.completions.parse(
            model="triage-fenced",
            messages=[],
            response_format=Ticket,
            extra_body={"backstay": {"inputs": expect.TICKET}},
        )
        self.assertIsInstance(answer.choices[0].message.parsed, Ticket)

    def test_the_stream_of_the_sdks_own_assembly(self):
        asking = self.client.chat.completions.stream(
            model="up/ok", messages=SAY_HELLO, response_format=Ticket
        )
        with asking as stream:
            answer = stream.get_final_completion()
        self.assertIsInstance(answer.choices[0].message.parsed, Ticket)

    def test_a_refusal(self):
        for model in ("up/refusal", "upa/refusal"):
            with self.subTest(model):
                answer = self.ask_raw(model)
                expect.headers(self, answer.headers, outcome="refused")
                self.assertTrue(answer.parse().choices[0].message.refusal)


class Degraded(Case):
    def test_the_static_answer(self):
        raw = self.ask_call("triage-static")
        expect.headers(self, raw.headers, degraded="static", outcome="overloaded")
        value = json.loads(raw.parse().choices[0].message.content)
        self.assertEqual(value, {"priority": "normal", "summary": "Not yet sorted."})

    def test_the_message(self):
        raw = self.ask_raw("chat-message")
        expect.headers(self, raw.headers, degraded="message", outcome="overloaded")
        answer = raw.parse()
        self.assertIn("overloaded", answer.choices[0].message.content)
        # Headers get lost on the way to a person: the body says so as well.
        self.assertEqual(answer.model_extra["backstay"]["degraded"], "message")
        self.assertEqual(
            answer.model_extra["backstay"]["call_id"], raw.headers["x-backstay-call-id"]
        )

    def test_the_static_answer_is_parsed_as_any_other(self):
        answer = self.client.chat.completions.parse(
            model="triage-static",
            messages=[],
            response_format=Ticket,
            extra_body={"backstay": {"inputs": expect.TICKET}},
        )
        self.assertEqual(answer.choices[0].message.parsed.summary, "Not yet sorted.")


class Failures(Case):
    def check(self, error, status, failure, ask, attempts=1):
        """The SDK's own exception, and Backstay's fields in its body."""
        with self.assertRaises(error) as caught:
            ask()
        raised = caught.exception
        self.assertEqual(raised.status_code, status)
        expect.headers(self, raised.response.headers, outcome=failure, degraded="none")
        self.assertEqual(raised.type, failure)
        self.assertEqual(raised.body["call_id"], raised.response.headers["x-backstay-call-id"])
        self.assertTrue(raised.body["message"])
        self.assertIsInstance(raised.body["retryable"], bool)
        self.assertGreaterEqual(len(raised.body["attempts"]), attempts)
        for attempt in raised.body["attempts"]:
            self.assertEqual(set(attempt), {"target", "failure", "ms"})
        return raised

    def test_a_wrong_request(self):
        self.check(openai.BadRequestError, 400, "bad_request", lambda: self.ask("up/400"))

    def test_a_missing_input(self):
        ask = lambda: self.ask("triage", messages=[])
        raised = self.check(openai.BadRequestError, 400, "bad_request", ask, attempts=0)
        self.assertIn("ticket", raised.body["message"])

    def test_a_prompt_that_is_too_long(self):
        ask = lambda: self.ask("up/400-context-length")
        self.check(openai.BadRequestError, 400, "context_length", ask)

    def test_an_upstream_error(self):
        ask = lambda: self.ask("up/500")
        raised = self.check(openai.InternalServerError, 502, "upstream_error", ask)
        self.assertEqual(raised.body["attempts"][0]["target"], "up/500")
        self.assertTrue(raised.body["retryable"])

    def test_the_providers_401_is_not_the_clients(self):
        raised = self.check(
            openai.InternalServerError, 502, "upstream_auth", lambda: self.ask("up/401")
        )
        self.assertFalse(raised.body["retryable"])

    def test_a_rate_limit_says_when_to_come_back(self):
        # The provider asks for two seconds, which this deadline does not have.
        within = {"x-backstay-deadline-ms": "1500"}
        ask = lambda: self.ask("up/429-retry-after", extra_headers=within)
        raised = self.check(openai.RateLimitError, 429, "rate_limited", ask)
        self.assertGreater(float(raised.response.headers["retry-after"]), 0)

    def test_a_provider_that_hangs(self):
        within = {"x-backstay-deadline-ms": "700"}
        ask = lambda: self.ask("up/hang-headers", extra_headers=within)
        self.check(openai.InternalServerError, 504, "timeout", ask)

    def test_an_empty_answer_is_never_delivered(self):
        ask = lambda: self.ask("up/empty-content")
        self.check(openai.InternalServerError, 502, "empty", ask)

    def test_an_answer_that_breaks_its_schema(self):
        ask = lambda: self.ask_call("triage-drifted")
        self.check(openai.InternalServerError, 502, "schema", ask)

    def test_an_unknown_call(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.ask("no-such-call")
        self.assertEqual(caught.exception.status_code, 404)
        self.assertIn("no-such-call", caught.exception.body["message"])
        expect.headers(self, caught.exception.response.headers)

    def test_an_unknown_field_of_ours(self):
        ask = lambda: self.ask("chat", extra_body={"backstay": {"input": {}}})
        raised = self.check(openai.BadRequestError, 400, "bad_request", ask, attempts=0)
        self.assertEqual(raised.param, "backstay.input")

    def test_an_unknown_release(self):
        with self.assertRaises(openai.NotFoundError):
            self.ask_call("triage@999999")


class Keys(unittest.TestCase):
    def ask(self, key):
        with client(base_url=f"{expect.url('BACKSTAY_URL_WITH_KEYS')}/v1", api_key=key) as asking:
            return asking.chat.completions.create(model="up/ok", messages=SAY_HELLO)

    def test_a_wrong_key_is_refused(self):
        with self.assertRaises(openai.AuthenticationError) as caught:
            self.ask("bsk-wrong")
        self.assertEqual(caught.exception.status_code, 401)
        expect.headers(self, caught.exception.response.headers)

    def test_the_right_key_is_not(self):
        self.assertTrue(self.ask(os.environ["BACKSTAY_TEST_KEY"]).choices[0].message.content)


if __name__ == "__main__":
    unittest.main()
