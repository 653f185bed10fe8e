// Says how much a browser has to fetch, and fails if it is too much: `node dev/size.mjs DIST`.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const MOST = 150 * 1024;
const dir = process.argv[2] ?? "dist";
let total = 0;
for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile()) continue;
  const size = gzipSync(readFileSync(join(entry.parentPath ?? entry.path, entry.name)), { level: 9 }).length;
  total += size;
  console.log(`${entry.name}: ${size} bytes gzipped`);
}
console.log(`in all ${total} of ${MOST} bytes`);
process.exit(total > 0 && total <= MOST ? 0 : 1);
