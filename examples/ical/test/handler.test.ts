import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import handle from "../src/handler.ts";
import type { Happening } from "../src/happenings.ts";

const sample = await readFile(new URL("../request/harbour.ics", import.meta.url), "utf8");

async function call(body: string, query = "?from=2026-10-19&to=2026-11-17") {
  const response = await handle(new Request(`http://localhost/${query}`, { method: "POST", body }));
  return { status: response.status, answer: await response.json() };
}

async function happenings(body: string, query?: string): Promise<Happening[]> {
  const { status, answer } = await call(body, query);
  assert.equal(status, 200, JSON.stringify(answer));
  return answer as Happening[];
}

function event(...lines: string[]): string {
  return ["BEGIN:VCALENDAR", "BEGIN:VEVENT", "UID:one", ...lines, "END:VEVENT", "END:VCALENDAR"].join("\r\n");
}

test("meetings keep their hour when the clocks change", async () => {
  const found = await happenings(sample);
  assert.deepEqual(
    found.map(({ summary, start }) => `${start} ${summary}`),
    [
      "2026-10-19T07:00:00.000Z Crew meeting",
      "2026-10-24 Spring tide",
      // Central European Time from here on; the second of November is left out, the ninth is later that day.
      "2026-10-26T08:00:00.000Z Crew meeting",
      "2026-11-09T13:00:00.000Z Crew meeting, late",
      "2026-11-16T08:00:00.000Z Crew meeting",
    ],
  );
  assert.equal(found[0]?.location, "Quay 3, upstairs");
  assert.deepEqual(
    found.map(({ allDay, repeats }) => [allDay, repeats]),
    [[false, true], [true, false], [false, true], [false, true], [false, true]],
  );
});

test("what began before and still lasts is there", async () => {
  const found = await happenings(sample, "?from=2026-10-25&to=2026-10-26");
  assert.deepEqual(found.map(({ uid, end }) => [uid, end]), [["spring-tide@harbour.example", "2026-10-27"]]);
});

test("two calendars one after the other", async () => {
  const one = event("SUMMARY:a", "DTSTART:20261020T000000Z");
  assert.equal((await happenings(`${one}\r\n${one}`)).length, 2);
});

test("a rule that repeats for ever ends", async () => {
  const { status, answer } = await call(event("DTSTART:19700101T000000Z", "RRULE:FREQ=SECONDLY"));
  assert.equal(status, 422);
  assert.match((answer as { error: string }).error, /"one" repeats too often/);
});

test("what is no calendar is refused", async () => {
  for (const body of ["", "hello", "BEGIN:VCARD\r\nEND:VCARD", "BEGIN:VCALENDAR", event("SUMMARY:no start")]) {
    const { status, answer } = await call(body);
    assert.equal(status, 422, body);
    assert.ok((answer as { error: string }).error);
  }
});

test("bad days are named", async () => {
  for (const query of ["?from=tomorrow", "?from=2026-02-30", "?to=2026-13-01", "?from=2026-01-02&to=2026-01-01"]) {
    const { status, answer } = await call(sample, query);
    assert.equal(status, 400, query);
    assert.match((answer as { error: string }).error, /^(from|to) /);
  }
});

test("other methods are refused", async () => {
  const response = await handle(new Request("http://localhost/"));
  assert.deepEqual([response.status, response.headers.get("allow")], [405, "POST"]);
});
