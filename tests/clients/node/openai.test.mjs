// OpenAI's own SDK for Node.js against Backstay: answers, streams, tools, schemas and failures.
//
// A target whose model names a fault is asked once in a test run, so that no breaker is open yet.

import assert from "node:assert/strict";
import {describe, it} from "node:test";
import OpenAI from "openai";

const HEADERS = ["call-id", "release", "variant", "outcome", "degraded", "attempts", "overhead-us"];
const messages = [{role: "user", content: "Say hello."}];
const inputs = {ticket: "The printer on the third floor is on fire."};
const ticketSchema = {
    type: "object",
    properties: {priority: {enum: ["low", "normal", "urgent"]}, summary: {type: "string"}},
    required: ["priority", "summary"],
    additionalProperties: false,
};
const weather = {
    type: "function",
    function: {
        name: "get_weather",
        description: "The weather of a city.",
        parameters: {type: "object", properties: {city: {type: "string"}}, required: ["city"]},
    },
};

function address(name = "BACKSTAY_URL") {
    const url = process.env[name];
    assert.ok(url, `${name} is not set: run this with \`cargo xtask test --only clients\``);
    return `${url}/v1`;
}

function connect(baseURL = address(), apiKey = "unused") {
    return new OpenAI({baseURL, apiKey, maxRetries: 0, timeout: 30_000});
}

function checkHeaders(headers, expected = {}) {
    for (const name of HEADERS) assert.ok(headers.has(`x-backstay-${name}`), `x-backstay-${name}`);
    for (const [name, value] of Object.entries(expected)) {
        assert.equal(headers.get(`x-backstay-${name}`), value, `x-backstay-${name}`);
    }
}

function checkTicket(value) {
    assert.deepEqual(Object.keys(value).sort(), ["priority", "summary"]);
    assert.ok(["low", "normal", "urgent"].includes(value.priority));
    assert.ok(value.summary.length > 0);
}

const client = connect();
const ask = (model, more = {}, options = {}) =>
    client.chat.completions.create({model, messages, ...more}, options);
const askCall = (model, more = {}) => ask(model, {messages: [], backstay: {inputs}, ...more});

describe("answers", () => {
    for (const model of ["up/ok", "upa/ok", "sim/ok", "chat"]) {
        it(`of ${model}`, async () => {
            const {data, response} = await ask(model).withResponse();
            checkHeaders(response.headers, {outcome: "ok", degraded: "none"});
            assert.ok(data.choices[0].message.content);
            assert.equal(data.choices[0].finish_reason, "stop");
            assert.ok(data.usage.total_tokens > 0);
        });
    }

    it("of a call with inputs, and of its release by name", async () => {
        const {data, response} = await askCall("triage").withResponse();
        checkTicket(JSON.parse(data.choices[0].message.content));
        const release = response.headers.get("x-backstay-release");
        assert.match(release, /^triage@\d+$/);
        const pinned = await askCall(release).withResponse();
        checkHeaders(pinned.response.headers, {release, variant: "pinned"});
    });

    it("of a schema of the client", async () => {
        const response_format = {
            type: "json_schema",
            json_schema: {name: "ticket", strict: true, schema: ticketSchema},
        };
        const answer = await client.chat.completions.parse({model: "up/ok", messages, response_format});
        checkTicket(answer.choices[0].message.parsed ?? JSON.parse(answer.choices[0].message.content));
    });

    it("that refuse", async () => {
        const {data, response} = await ask("up/refusal").withResponse();
        checkHeaders(response.headers, {outcome: "refused"});
        assert.ok(data.choices[0].message.refusal);
    });

    it("that are a message name the failure", async () => {
        const {data, response} = await ask("chat-message").withResponse();
        checkHeaders(response.headers, {degraded: "message", outcome: "overloaded"});
        assert.match(data.choices[0].message.content, /overloaded/);
    });

    it("that are degraded say so", async () => {
        const {data, response} = await askCall("triage-static").withResponse();
        checkHeaders(response.headers, {degraded: "static", outcome: "overloaded"});
        assert.equal(JSON.parse(data.choices[0].message.content).summary, "Not yet sorted.");
    });
});

describe("streams", () => {
    it("are assembled", async () => {
        let text = "";
        let usage;
        const {data, response} = await ask("up/ok", {
            stream: true,
            stream_options: {include_usage: true},
        }).withResponse();
        checkHeaders(response.headers, {outcome: "pending"}); // how it ends is not known yet
        for await (const chunk of data) {
            text += chunk.choices[0]?.delta.content ?? "";
            usage = chunk.usage ?? usage;
        }
        assert.ok(text.length > 0);
        assert.ok(usage.completion_tokens > 0);
    });

    it("hold a schema", async () => {
        const stream = client.chat.completions.stream({model: "triage-fenced", messages: [], backstay: {inputs}});
        const answer = await stream.finalChatCompletion();
        checkTicket(JSON.parse(answer.choices[0].message.content));
    });

    for (const [model, failure] of [
        ["up/error-event", "upstream_error"],
        ["upa/error-event", "overloaded"],
        ["up/cut-stream", "truncated"],
    ]) {
        it(`of ${model} end in an error`, async () => {
            let text = "";
            await assert.rejects(
                async () => {
                    for await (const chunk of await ask(model, {stream: true})) {
                        text += chunk.choices[0]?.delta.content ?? "";
                    }
                },
                (error) => {
                    assert.ok(error instanceof OpenAI.APIError, String(error));
                    assert.equal(error.type, failure);
                    assert.ok(error.error.call_id);
                    return true;
                },
            );
            assert.ok(text.length > 0, "the failure came after the first content");
        });
    }
});

describe("tools", () => {
    for (const model of ["up/ok", "upa/ok"]) {
        it(`there and back with ${model}`, async () => {
            const choice = {type: "function", function: {name: "get_weather"}};
            const asked = await ask(model, {tools: [weather], tool_choice: choice});
            const {finish_reason, message} = asked.choices[0];
            assert.equal(finish_reason, "tool_calls");
            const [call] = message.tool_calls;
            assert.equal(typeof JSON.parse(call.function.arguments).city, "string");
            const result = {role: "tool", tool_call_id: call.id, content: "22 degrees, sunny"};
            const answer = await ask(model, {
                messages: [...messages, message, result],
                tools: [weather],
                tool_choice: "none",
            });
            assert.ok(answer.choices[0].message.content);
        });
    }
});

describe("tools in a stream", () => {
    for (const model of ["up/ok", "upa/ok"]) {
        it(`of ${model}`, async () => {
            const asking = client.chat.completions.stream({
                model,
                messages,
                tools: [weather],
                tool_choice: "required",
            });
            const {finish_reason, message} = (await asking.finalChatCompletion()).choices[0];
            assert.equal(finish_reason, "tool_calls");
            assert.equal(typeof JSON.parse(message.tool_calls[0].function.arguments).city, "string");
        });
    }
});

describe("failures", () => {
    const soon = (ms) => ({headers: {"x-backstay-deadline-ms": String(ms)}});
    const cases = [
        ["up/400", OpenAI.BadRequestError, 400, "bad_request"],
        ["up/400-context-length", OpenAI.BadRequestError, 400, "context_length"],
        ["up/401", OpenAI.InternalServerError, 502, "upstream_auth"],
        ["up/500", OpenAI.InternalServerError, 502, "upstream_error"],
        ["up/empty-content", OpenAI.InternalServerError, 502, "empty"],
        ["up/429-retry-after", OpenAI.RateLimitError, 429, "rate_limited", soon(1500)],
        ["up/hang-headers", OpenAI.InternalServerError, 504, "timeout", soon(700)],
    ];
    for (const [model, kind, status, failure, options] of cases) {
        it(`of ${model}`, async () => {
            await assert.rejects(ask(model, {}, options), (error) => {
                assert.ok(error instanceof kind, `${error.constructor.name}: ${error}`);
                assert.equal(error.status, status);
                assert.equal(error.type, failure);
                checkHeaders(error.headers, {outcome: failure, degraded: "none"});
                assert.equal(error.error.call_id, error.headers.get("x-backstay-call-id"));
                assert.ok(error.error.attempts.length > 0);
                assert.equal(error.error.attempts[0].target, model);
                return true;
            });
        });
    }

    it("of a call that does not exist", async () => {
        await assert.rejects(ask("no-such-call"), (error) => {
            assert.ok(error instanceof OpenAI.NotFoundError, String(error));
            checkHeaders(error.headers);
            return true;
        });
    });

    it("of a wrong key, and none of the right one", async () => {
        const url = address("BACKSTAY_URL_WITH_KEYS");
        const say = (key) => connect(url, key).chat.completions.create({model: "up/ok", messages});
        await assert.rejects(say("bsk-wrong"), OpenAI.AuthenticationError);
        assert.ok((await say(process.env.BACKSTAY_TEST_KEY)).choices[0].message.content);
    });
});
