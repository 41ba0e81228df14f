// What a handler sees: the event, the context.
'use strict';

const { Buffer } = require('buffer');

/** The body of the request is not JSON; left to propagate, it answers 400. */
class InvalidJson extends SyntaxError {
  constructor(reason) {
    super(`the body is not valid JSON: ${reason}`);
    this.name = 'InvalidJson';
  }
}

/**
 * Read-only header fields, looked up without regard to case: `get`, `getAll`, `has`, and iteration.
 *
 * Each is also a property by its lower-case name, unless that is the name of a method here.
 */
class Headers {
  #fields;

  constructor(fields) {
    this.#fields = fields;
    for (let at = 0; at < fields.length; at += 2) {
      const name = fields[at];
      if (!(name in Headers.prototype)) {
        this[name] = Object.hasOwn(this, name) ? `${this[name]}${name === 'cookie' ? '; ' : ', '}${fields[at + 1]}` : fields[at + 1];
      }
    }
  }

  /** The values of `name` joined by a comma (cookies by a semicolon), or undefined. */
  get(name) {
    const values = this.getAll(name);
    return values.length === 0 ? undefined : values.join(name.toLowerCase() === 'cookie' ? '; ' : ', ');
  }

  /** Every value of `name`, in order of arrival. */
  getAll(name) {
    const wanted = String(name).toLowerCase();
    const values = [];
    for (let at = 0; at < this.#fields.length; at += 2) {
      if (this.#fields[at] === wanted) {
        values.push(this.#fields[at + 1]);
      }
    }
    return values;
  }

  has(name) {
    return this.getAll(name).length > 0;
  }

  keys() {
    return [...new Set(this.#fields.filter((_, at) => at % 2 === 0))];
  }

  values() {
    return this.keys().map((name) => this.get(name));
  }

  entries() {
    return this.keys().map((name) => [name, this.get(name)]);
  }

  /** Every field as it came, as pairs. */
  raw() {
    const pairs = [];
    for (let at = 0; at < this.#fields.length; at += 2) {
      pairs.push([this.#fields[at], this.#fields[at + 1]]);
    }
    return pairs;
  }

  [Symbol.iterator]() {
    return this.entries()[Symbol.iterator]();
  }
}

/** One request, as a handler sees it. */
class Event {
  #head;
  #params = null;
  #headers = null;

  /** `body`: a Buffer, complete. */
  constructor(head, body) {
    this.#head = head;
    this.method = head.method;
    /** The whole body as a Buffer. */
    this.body = body;
  }

  /** The path as sent, percent escapes kept, without the query. */
  get rawPath() {
    const target = this.#head.target;
    const at = target.indexOf('?');
    return (at < 0 ? target : target.slice(0, at)) || '/';
  }

  /** The path after the function's prefix, escapes decoded; begins with "/". */
  get path() {
    const raw = this.rawPath;
    return raw.includes('%') ? unescape(raw) : raw;
  }

  /** What follows the first "?", as sent. */
  get queryString() {
    const target = this.#head.target;
    const at = target.indexOf('?');
    return at < 0 ? '' : target.slice(at + 1);
  }

  #pairs() {
    this.#params ??= new URLSearchParams(this.queryString);
    return this.#params;
  }

  /** The query as an object of strings; of repeated names the last wins. */
  get query() {
    const query = Object.create(null);
    for (const [name, value] of this.#pairs()) {
      query[name] = value;
    }
    return query;
  }

  /** Every value of the query parameter `name`, in order. */
  queryList(name) {
    return this.#pairs().getAll(name);
  }

  get headers() {
    this.#headers ??= new Headers(this.#head.fields);
    return this.#headers;
  }

  /** The media type without parameters, lower case; "" if none was sent. */
  get contentType() {
    return (this.#head.get('content-type') ?? '').split(';', 1)[0].trim().toLowerCase();
  }

  /** The body as a stream, for code that wants one. It is in memory: for a body as it arrives, use `fetch`. */
  get stream() {
    return require('stream').Readable.from(this.body.length > 0 ? [this.body] : [], { objectMode: false });
  }

  /** The body decoded by the charset of its content type, UTF-8 by default. */
  get text() {
    const type = this.#head.get('content-type') ?? '';
    const charset = /;\s*charset\s*=\s*["']?([^"';\s]+)/i.exec(type)?.[1] ?? 'utf-8';
    if (/^utf-?8$/i.test(charset)) {
      return this.body.toString();
    }
    try {
      return new TextDecoder(charset).decode(this.body);
    } catch {
      return this.body.toString();
    }
  }

  /** The body read as JSON; throws InvalidJson saying what is wrong. */
  json() {
    return parseJson(this.body.toString());
  }
}

/** JSON as a caller sent it; throws InvalidJson. */
function parseJson(text) {
  if (text === '') {
    throw new InvalidJson('it is empty');
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new InvalidJson(error.message.charAt(0).toLowerCase() + error.message.slice(1));
  }
}

/** Percent escapes decoded as UTF-8; what is no escape, or no UTF-8, becomes what a lenient reader makes of it. */
function unescape(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    const bytes = text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));
    return Buffer.from(bytes, 'latin1').toString();
  }
}

const LEVELS = ['debug', 'info', 'warn', 'error'];

/** A logger to standard error, from level info up: `log.info('read', count)`. */
const log = Object.freeze(Object.fromEntries(LEVELS.map((level, rank) => [level, (...words) => {
  if (rank > 0) {
    process.stderr.write(`${level.toUpperCase()} ${require('util').format(...words)}\n`);
  }
}])));

/** The circumstances of one call. */
class Context {
  #x;
  #deadline;

  constructor(config, x) {
    const head = x.head;
    this.#x = x;
    this.requestId = head.requestId;
    this.functionName = config.function ?? null;
    this.namespace = config.namespace ?? null;
    this.revision = config.revision ?? null;
    this.memoryLimitBytes = config.memory ?? null;
    /** The part of the caller's path that led to the function. */
    this.pathPrefix = head.prefix;
    // The server's deadline wins over the configured timeout.
    const ms = head.deadlineMs ?? config.timeout_ms ?? null;
    this.#deadline = ms === null ? null : Date.now() + ms;
  }

  /** Milliseconds since the epoch, or null. */
  get deadline() {
    return this.#deadline;
  }

  /** Milliseconds until the deadline, never below 0; null without one. */
  remainingMs() {
    return this.#deadline === null ? null : Math.max(0, this.#deadline - Date.now());
  }

  /** Aborted when the caller has gone or time is up. */
  get signal() {
    return this.#x.signal;
  }

  /** Keeps the instance from being ended by a scale-down until the promise has settled. The answer does not wait. */
  waitUntil(promise) {
    this.#x.server.keepFor(promise);
  }

  get log() {
    return log;
  }
}

module.exports = { Event, Context, Headers, InvalidJson, parseJson };
