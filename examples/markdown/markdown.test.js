import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import handle from "./markdown.js";

const sample = await readFile(new URL("request/tides.md", import.meta.url));

async function call(body, { query = "", method = "POST" } = {}) {
  const init = method === "GET" ? { method } : { method, body };
  const response = await handle(new Request(`http://localhost/${query}`, init));
  return { status: response.status, headers: response.headers, text: await response.text() };
}

test("the sample becomes headings, a table, a list and a footnote", async () => {
  const { status, headers, text } = await call(sample);
  assert.equal(status, 200);
  assert.equal(headers.get("content-type"), "text/html; charset=utf-8");
  assert.match(text, /^<h1>Tides at <em>Saint-Malo<\/em><\/h1>\n/);
  assert.match(text, /<td style="text-align:right">12\.2<\/td>/);
  assert.match(text, /<s>twice<\/s>/);
  assert.match(text, /<section class="footnotes">/);
});

test("a page has the first heading as its title, without markup", async () => {
  const { text } = await call(sample, { query: "?page" });
  assert.match(text, /^<!doctype html>\n<meta charset="utf-8">\n<title>Tides at Saint-Malo<\/title>\n<h1>/);
  assert.match(text, /<section class="footnotes">/);
  assert.match((await call("no heading", { query: "?page" })).text, /<title>Untitled<\/title>/);
});

test("a title is escaped", async () => {
  const { text } = await call("# a < b & c", { query: "?page" });
  assert.match(text, /<title>a &lt; b &amp; c<\/title>/);
});

test("HTML is shown, not obeyed", async () => {
  const { text } = await call("<script>alert(1)</script>\n\n[x](javascript:alert(1))\n\n![y](data:text/html,z)");
  assert.doesNotMatch(text, /<script|href="javascript|src="data:text/);
  assert.match(text, /&lt;script&gt;/);
});

test("an empty text is an empty answer", async () => {
  assert.deepEqual([(await call("")).status, (await call("")).text], [200, ""]);
});

test("what is no UTF-8 is refused", async () => {
  const { status, text } = await call(new Uint8Array([0x23, 0x20, 0xff]));
  assert.equal(status, 400);
  assert.match(JSON.parse(text).error, /not UTF-8/);
});

test("other methods are refused", async () => {
  const { status, headers } = await call("", { method: "GET" });
  assert.deepEqual([status, headers.get("allow")], [405, "POST"]);
});
