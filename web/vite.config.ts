import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";

const HERE = import.meta.dirname;
const SOURCE = ["index.html", "package-lock.json", "package.json", "svelte.config.js", "vite.config.ts", "public", "src"];

/** Names and contents of the source as one hash: a test compares it, so that nobody forgets to build. */
function sourceHash(): string {
  const files = SOURCE.flatMap((name) =>
    name.includes(".")
      ? [name]
      : readdirSync(join(HERE, name), { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => relative(HERE, join(entry.parentPath, entry.name))),
  ).sort();
  const hash = createHash("sha256");
  for (const file of files) hash.update(`${file}\0`).update(readFileSync(join(HERE, file))).update("\0");
  return hash.digest("hex");
}

function rememberSource(): Plugin {
  return {
    name: "remember-source",
    generateBundle() {
      this.emitFile({ type: "asset", fileName: "source.txt", source: `${sourceHash()}\n` });
    },
  };
}

// The built files are package data of phonofilm: the same source gives the same bytes and names.
export default defineConfig({
  base: "/studio/",
  plugins: [svelte(), rememberSource()],
  build: {
    outDir: "../src/phonofilm/serving/studio/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8000", "/studio/session": "http://127.0.0.1:8000" } },
});
