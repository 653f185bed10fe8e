// How the dashboard is built: one script and one style sheet, the same bytes on every machine.
import { defineConfig } from "vitest/config";

/** Where `npm run dev` finds the API: a gateway, or `npm run mock`. */
const API = process.env["BACKSTAY_SERVER"] ?? "http://127.0.0.1:4799";

export default defineConfig({
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    reportCompressedSize: false,
    emptyOutDir: true,
  },
  server: { port: 4798, strictPort: true, proxy: { "/api": API, "/v1": API } },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
