// OpenAI's chat completions over a small real language model, on the CPU.
//
//   node server.mjs --model PATH.gguf [--port N] [--parallel N]
//
// For tests and development only: one model, text messages, no tools. A `model` that ends with
// `-unguided` ignores `response_format`, as many servers do: its answers drift. With port 0 the system
// chooses one; `listening on http://ADDR` on stderr says which.

import {randomUUID} from "node:crypto";
import http from "node:http";
import {parseArgs} from "node:util";
import {getLlama, LlamaChatSession} from "node-llama-cpp";

const MODEL = "smollm2-135m";
const UNGUIDED = "-unguided";
const CONTEXT = 2048;
const BODY_LIMIT = 1 << 20;

const {values: options} = parseArgs({
    options: {
        model: {type: "string"},
        port: {type: "string", default: "0"},
        parallel: {type: "string", default: "2"},
    },
});
if (options.model === undefined) {
    throw new Error("--model PATH.gguf is missing");
}

class RequestError extends Error {
    constructor(status, message, code = null) {
        super(message);
        Object.assign(this, {status, body: {error: {message, type: "invalid_request_error", param: null, code}}});
    }
}

// One thread: with more, the workers of llama.cpp spin against each other on a small machine.
const llama = await getLlama({gpu: false, build: "never", logLevel: "error", maxThreads: 1});
const model = await llama.loadModel({modelPath: options.model});
const sequences = Number(options.parallel);
const context = await model.createContext({contextSize: CONTEXT, sequences, threads: 1});

/** Lends out the context's sequences, first come, first served. */
class Pool {
    #free = Array.from({length: sequences}, () => context.getSequence());
    #waiting = [];

    take() {
        const sequence = this.#free.pop();
        return sequence ? Promise.resolve(sequence) : new Promise((resolve) => this.#waiting.push(resolve));
    }

    give(sequence) {
        const next = this.#waiting.shift();
        if (next) next(sequence);
        else this.#free.push(sequence);
    }
}
const pool = new Pool();

async function readJson(request) {
    const chunks = [];
    let size = 0;
    for await (const chunk of request) {
        size += chunk.length;
        if (size > BODY_LIMIT) throw new RequestError(413, `The body is larger than ${BODY_LIMIT} bytes.`);
        chunks.push(chunk);
    }
    try {
        return JSON.parse(Buffer.concat(chunks).toString("utf8"));
    } catch (error) {
        throw new RequestError(400, `The body is not JSON: ${error.message}`);
    }
}

function textOf(content) {
    if (typeof content === "string") return content;
    if (Array.isArray(content)) return content.map((part) => part.text ?? "").join("");
    throw new RequestError(400, "`content` has to be a text.");
}

/** Splits the messages into the system prompt, the history and the prompt to answer. */
function conversation(body, maxTokens) {
    if (!Array.isArray(body.messages) || body.messages.length === 0) {
        throw new RequestError(400, "`messages` has to be a list with at least one message.");
    }
    const messages = body.messages.map(({role, content}) => ({role, text: textOf(content)}));
    const tokens = model.tokenize(messages.map(({text}) => text).join("\n")).length;
    if (tokens + maxTokens > CONTEXT) {
        const message = `This model's maximum context length is ${CONTEXT} tokens, but ${tokens} and ${maxTokens} for the answer were asked for.`;
        throw new RequestError(400, message, "context_length_exceeded");
    }
    const isSystem = ({role}) => role === "system" || role === "developer";
    const system = messages.filter(isSystem).map(({text}) => text).join("\n");
    const turns = messages.filter((message) => !isSystem(message));
    const prompt = turns.pop()?.text ?? "";
    const history = turns.map(({role, text}) =>
        role === "user" ? {type: "user", text} : {type: "model", response: [text]});
    return {system: system === "" ? [] : [{type: "system", text: system}], history, prompt};
}

async function grammarFor(format) {
    try {
        if (format?.type === "json_schema") return await llama.createGrammarForJsonSchema(format.json_schema.schema);
        if (format?.type === "json_object") return await llama.getGrammarFor("json");
    } catch (error) {
        throw new RequestError(400, `This response_format is not supported: ${error.message}`);
    }
    return undefined;
}

function sendJson(response, status, body) {
    response.writeHead(status, {"content-type": "application/json"});
    response.end(JSON.stringify(body));
}

/** Writes chat completion chunks. */
class Stream {
    constructor(response, base) {
        Object.assign(this, {response, base: {...base, object: "chat.completion.chunk"}});
    }

    open() {
        this.response.writeHead(200, {"content-type": "text/event-stream"});
        this.delta({role: "assistant", content: ""});
    }

    delta(delta, finish_reason = null) {
        this.#event({...this.base, choices: [{index: 0, delta, finish_reason}]});
    }

    close(usage) {
        if (usage) this.#event({...this.base, choices: [], usage});
        this.response.end("data: [DONE]\n\n");
    }

    #event(data) {
        this.response.write(`data: ${JSON.stringify(data)}\n\n`);
    }
}

async function complete(request, response) {
    const body = await readJson(request);
    const maxTokens = body.max_completion_tokens ?? body.max_tokens ?? 256;
    const {system, history, prompt} = conversation(body, maxTokens);
    const guided = !String(body.model ?? MODEL).endsWith(UNGUIDED);
    const grammar = guided ? await grammarFor(body.response_format) : undefined;
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    const base = {id: `chatcmpl-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model: MODEL};
    const stream = body.stream ? new Stream(response, base) : undefined;

    const sequence = await pool.take();
    try {
        await sequence.clearHistory();
        const session = new LlamaChatSession({contextSequence: sequence});
        session.setChatHistory([...system, ...history]);
        let generated = 0;
        stream?.open();
        const answer = await session.promptWithMeta(prompt, {
            maxTokens,
            grammar,
            temperature: body.temperature ?? 0.7,
            topP: body.top_p,
            seed: body.seed,
            customStopTriggers: body.stop === undefined ? undefined : [body.stop].flat(),
            signal: gone.signal,
            stopOnAbortSignal: true,
            onToken: (tokens) => { generated += tokens.length; },
            onTextChunk: (text) => stream?.delta({content: text}),
        });
        const finish = answer.stopReason === "maxTokens" ? "length" : "stop";
        const total = sequence.nextTokenIndex;
        const usage = {prompt_tokens: Math.max(0, total - generated), completion_tokens: generated, total_tokens: total};
        if (stream) {
            stream.delta({}, finish);
            stream.close(body.stream_options?.include_usage ? usage : undefined);
        } else {
            const message = {role: "assistant", content: answer.responseText};
            const choices = [{index: 0, message, finish_reason: finish}];
            sendJson(response, 200, {...base, object: "chat.completion", choices, usage});
        }
    } finally {
        pool.give(sequence);
    }
}

async function handle(request, response) {
    if (request.method === "GET" && request.url === "/v1/models") {
        const data = [MODEL, MODEL + UNGUIDED].map((id) => ({id, object: "model", owned_by: "local"}));
        sendJson(response, 200, {object: "list", data});
    } else if (request.method === "POST" && request.url === "/v1/chat/completions") {
        await complete(request, response);
    } else {
        throw new RequestError(404, `There is no ${request.method} ${request.url} here.`);
    }
}

const server = http.createServer((request, response) => {
    handle(request, response).catch((error) => {
        if (response.headersSent) return response.destroy();
        if (error instanceof RequestError) return sendJson(response, error.status, error.body);
        console.error(error);
        return sendJson(response, 500, {error: {message: "The model failed.", type: "server_error", param: null, code: null}});
    });
});
server.listen(Number(options.port), "127.0.0.1", () => {
    console.error(`listening on http://127.0.0.1:${server.address().port}`);
});
