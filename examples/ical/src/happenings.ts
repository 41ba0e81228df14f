import ICAL from "ical.js";

/** Something that happens: times are instants in UTC, or days for what lasts whole days. */
export interface Happening {
  uid: string;
  summary: string;
  location: string | null;
  start: string;
  end: string;
  allDay: boolean;
  repeats: boolean;
}

/** Why a calendar is not answered, as a status and a sentence. */
export class Unreadable extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

// What is looked at of all rules together. A rule may repeat every second for ever, so something has to end it.
const MOST_STEPS = 100_000;
const MOST_HAPPENINGS = 5_000;

/** What overlaps the time from `from` up to `to`, in order of its start. Repeated events are worked out one by one. */
export function happenings(text: string, from: Date, to: Date): Happening[] {
  const found: { at: number; happening: Happening }[] = [];
  let steps = 0;

  function add(event: ICAL.Event, start: ICAL.Time, end: ICAL.Time, repeats: boolean): void {
    const [began, ended] = [millis(start), millis(end)];
    // An event without length still happens at its moment.
    if (began >= to.getTime() || Math.max(ended, began + 1) <= from.getTime()) {
      return;
    }
    if (found.length === MOST_HAPPENINGS) {
      throw new Unreadable(413, `more than ${MOST_HAPPENINGS} events lie between the two days`);
    }
    const allDay = start.isDate;
    found.push({
      at: began,
      happening: {
        uid: event.uid,
        summary: event.summary ?? "",
        location: event.location ?? null,
        start: allDay ? start.toString() : new Date(began).toISOString(),
        end: allDay ? end.toString() : new Date(ended).toISOString(),
        allDay,
        repeats,
      },
    });
  }

  for (const calendar of calendars(text)) {
    for (const component of calendar.getAllSubcomponents("vevent")) {
      const event = new ICAL.Event(component);
      if (!event.startDate) {
        throw new Unreadable(422, `the event ${JSON.stringify(event.uid)} has no DTSTART`);
      }
      if (event.isRecurrenceException() || !event.isRecurring()) {
        add(event, event.startDate, event.endDate, event.isRecurrenceException());
        continue;
      }
      const times = event.iterator();
      for (let time = times.next(); time && millis(time) < to.getTime(); time = times.next()) {
        steps += 1;
        if (steps > MOST_STEPS) {
          throw new Unreadable(422, `the event ${JSON.stringify(event.uid)} repeats too often to be worked out`);
        }
        const { item, startDate, endDate } = event.getOccurrenceDetails(time);
        // One that was moved or changed stands in the calendar as an event of its own.
        if (item.component === component) {
          add(event, startDate, endDate, true);
        }
      }
    }
  }
  found.sort((a, b) => a.at - b.at);
  return found.map(({ happening }) => happening);
}

function calendars(text: string): ICAL.Component[] {
  let parsed: unknown;
  try {
    parsed = ICAL.parse(text);
  } catch (error) {
    throw new Unreadable(422, `this is not a calendar: ${error instanceof Error ? error.message : error}`);
  }
  // One calendar is a component, which begins with its name; several are a list of them.
  const list = (Array.isArray(parsed) && typeof parsed[0] === "string" ? [parsed] : parsed) as unknown[][];
  const components = list.map((jcal) => new ICAL.Component(jcal));
  if (components.length === 0 || components.some((component) => component.name !== "vcalendar")) {
    throw new Unreadable(422, "this is not a calendar: it does not begin with BEGIN:VCALENDAR");
  }
  return components;
}

/** Milliseconds since the epoch; a time without a zone is taken as UTC. */
function millis(time: ICAL.Time): number {
  return time.toUnixTime() * 1000;
}
