// A calendar in iCalendar form (RFC 5545) in, what happens in it between two days out, as JSON.

import { Unreadable, happenings } from "./happenings.ts";

const DAY_MS = 24 * 60 * 60 * 1000;
const DEFAULT_DAYS = 31;
// Ten years: far beyond what anybody looks ahead, and short enough for a yearly event to be worked out at once.
const MOST_DAYS = 3660;

/** Answers `POST` of a calendar; `?from=` and `?to=` are days (UTC), today and a month later unless given. */
export default async (request: Request): Promise<Response> => {
  if (request.method !== "POST") {
    return problem(405, "send the calendar by POST", { Allow: "POST" });
  }
  const query = new URL(request.url).searchParams;
  try {
    const from = day("from", query.get("from")) ?? today();
    const to = day("to", query.get("to")) ?? new Date(from.getTime() + DEFAULT_DAYS * DAY_MS);
    const days = (to.getTime() - from.getTime()) / DAY_MS;
    if (days <= 0 || days > MOST_DAYS) {
      return problem(400, `from and to are ${days} days apart; expected 1 to ${MOST_DAYS}`);
    }
    return Response.json(happenings(await request.text(), from, to));
  } catch (error) {
    if (error instanceof Unreadable) {
      return problem(error.status, error.message);
    }
    throw error;
  }
};

function day(name: string, text: string | null): Date | undefined {
  if (text === null) {
    return undefined;
  }
  const date = new Date(`${text}T00:00:00Z`);
  // The second half refuses days that do not exist, which would otherwise roll over into the next month.
  if (!/^\d{4}-\d\d-\d\d$/.test(text) || Number.isNaN(date.getTime()) || !date.toISOString().startsWith(text)) {
    throw new Unreadable(400, `${name} is ${JSON.stringify(text.slice(0, 20))}; expected a day such as 2026-11-23`);
  }
  return date;
}

function today(): Date {
  return new Date(Math.floor(Date.now() / DAY_MS) * DAY_MS);
}

function problem(status: number, error: string, headers: Record<string, string> = {}): Response {
  return Response.json({ error }, { status, headers });
}
