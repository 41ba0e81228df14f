import assert from "node:assert/strict";
import { test } from "node:test";

import handle from "./handler.js";

const call = (path, body) =>
  handle(new Request(`http://localhost${path}`, body === undefined ? {} : { method: "POST", body }));

test("greets by name", async () => {
  assert.deepEqual(await (await call("/", '{"name":"tide"}')).json(), { hello: "tide" });
  assert.deepEqual(await (await call("/?name=gate")).json(), { hello: "gate" });
  assert.deepEqual(await (await call("/")).json(), { hello: "world" });
});

test("refuses what is not JSON", async () => {
  assert.equal((await call("/", "{")).status, 400);
});
