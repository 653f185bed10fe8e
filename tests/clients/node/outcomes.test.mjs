// The code blocks of docs/manual/outcomes.md for TypeScript: checked by the compiler against the SDK's
// own types, and run as they stand there.

import assert from "node:assert/strict";
import {mkdirSync, readFileSync, rmSync, writeFileSync} from "node:fs";
import path from "node:path";
import {after, before, describe, it} from "node:test";
import {fileURLToPath, pathToFileURL} from "node:url";
import ts from "typescript";

const here = path.dirname(fileURLToPath(import.meta.url));
// Below this file, so that the SDK is found.
const made = path.join(here, "outcomes-blocks");

function setting(name) {
    const value = process.env[name];
    assert.ok(value, `${name} is not set: run this with \`cargo xtask test --only clients\``);
    return value;
}

function blocks() {
    const text = readFileSync(path.join(setting("BACKSTAY_DOCS"), "manual", "outcomes.md"), "utf8");
    const found = text.matchAll(/<!-- block: (\S+\.ts) -->\n```ts\n(.*?)```/gs);
    return new Map([...found].map(([, name, code]) => [name, code]));
}

/** How many records and reports the gateway has taken in. */
async function received() {
    const ready = await (await fetch(`${setting("BACKSTAY_URL")}/readyz`)).json();
    return ready.records.received;
}

describe("blocks of the manual", () => {
    const all = blocks();

    before(() => {
        mkdirSync(made, {recursive: true});
        const files = [...all].map(([name, code]) => {
            const file = path.join(made, name);
            writeFileSync(file, code);
            return file;
        });
        writeFileSync(path.join(made, "package.json"), '{"type": "module"}');
        const program = ts.createProgram(files, {
            strict: true,
            noUncheckedIndexedAccess: true,
            target: ts.ScriptTarget.ES2022,
            module: ts.ModuleKind.NodeNext,
            moduleResolution: ts.ModuleResolutionKind.NodeNext,
            lib: ["lib.es2023.d.ts", "lib.dom.d.ts", "lib.dom.iterable.d.ts"],
            types: ["node"],
            skipLibCheck: true,
        });
        const emitted = program.emit();
        const mistakes = [...ts.getPreEmitDiagnostics(program), ...emitted.diagnostics];
        const host = {
            getCurrentDirectory: () => made,
            getCanonicalFileName: (name) => name,
            getNewLine: () => "\n",
        };
        assert.equal(ts.formatDiagnostics(mistakes, host), "");
    });

    after(() => rmSync(made, {recursive: true, force: true}));

    const load = (name) => import(pathToFileURL(path.join(made, name)).href);

    it("are all run", () => {
        const names = ["backstay-outcomes.ts", "fetch-wrapper.ts", "with-response.ts"];
        assert.deepEqual([...all.keys()].sort(), names);
    });

    for (const name of ["with-response", "fetch-wrapper"]) {
        it(`${name} reports on its call`, async () => {
            const earlier = await received();
            assert.equal((await load(`${name}.js`)).accepted, true);
            assert.equal((await received()) - earlier, 2, "one call and one report");
        });
    }

    it("a report that is refused breaks nothing", async () => {
        const earlier = await received();
        const {report} = await load("backstay-outcomes.js");
        assert.equal(await report({ok: true, call_id: "no id"}), false);
        assert.equal(await received(), earlier);
    });
});
