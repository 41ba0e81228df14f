// Request bodies: the chunked coding, and waiting for what has not come yet.
'use strict';

const { BadRequest } = require('./http1.cjs');

// A size line with its extensions, which nobody uses; generous, but bounded. In bytes, as the next.
const SIZE_LINE_MAX = 1024;

// Trailers are skipped, so they only need to end.
const TRAILERS_MAX = 16 * 1024;

// A connection stops reading while it holds more than this of a body that nobody has taken.
const BODY_BUFFER = 256 * 1024;

const EMPTY = Buffer.alloc(0);
const SIZE = /^([0-9A-Fa-f]{1,12})[ \t]*(?:;[^\r\n\0]*)?$/;

const AT_SIZE = 0;
const IN_DATA = 1;
const AFTER_DATA = 2;
const IN_TRAILERS = 3;

/** The body is over the function's limit; left to propagate, it answers 413. */
class BodyTooLarge extends Error {
  constructor(limit) {
    super(`the body is over the limit of ${limit} bytes`);
    this.name = 'BodyTooLarge';
  }
}

/** The server closed the connection before the exchange was complete. */
class PeerGone extends Error {
  constructor(message = 'the connection is closed') {
    super(message);
    this.name = 'AbortError';
  }
}

/** Turns the chunked coding into plain bytes, piece by piece, without I/O. */
class ChunkedDecoder {
  constructor() {
    this.done = false;
    this.raw = EMPTY;
    this.state = AT_SIZE;
    this.left = 0;
    this.trailers = 0;
  }

  /** Takes coded bytes, answers the decoded pieces. */
  feed(data) {
    const raw = this.raw.length > 0 ? Buffer.concat([this.raw, data]) : data;
    const out = [];
    let at = 0;
    while (!this.done) {
      if (this.state === IN_DATA) {
        const part = raw.subarray(at, at + this.left);
        if (part.length === 0) {
          break;
        }
        out.push(part);
        at += part.length;
        this.left -= part.length;
        if (this.left > 0) {
          break;
        }
        this.state = AFTER_DATA;
        continue;
      }
      if (this.state === AFTER_DATA) {
        if (raw.length - at < 2) {
          break;
        }
        if (raw[at] !== 13 || raw[at + 1] !== 10) {
          throw new BadRequest('malformed chunk, expected CRLF after its data');
        }
        at += 2;
        this.state = AT_SIZE;
        continue;
      }
      const end = raw.indexOf('\r\n', at, 'latin1');
      const room = this.state === AT_SIZE ? SIZE_LINE_MAX : TRAILERS_MAX - this.trailers;
      if ((end < 0 ? raw.length : end) - at > room) {
        throw new BadRequest('chunk size line or trailers are too long');
      }
      if (end < 0) {
        break;
      }
      const line = raw.latin1Slice(at, end);
      at = end + 2;
      if (this.state === AT_SIZE) {
        const size = SIZE.exec(line);
        if (size === null) {
          throw new BadRequest('malformed chunk size, expected hexadecimal digits');
        }
        this.left = Number.parseInt(size[1], 16);
        this.state = this.left > 0 ? IN_DATA : IN_TRAILERS;
      } else if (line !== '') {
        this.trailers += line.length + 2;
      } else {
        this.done = true;
      }
    }
    this.raw = raw.subarray(at);
    return out;
  }
}

/** The body of one request as it arrives on its connection. */
class Body {
  constructor(conn, head, limit) {
    this.conn = conn;
    this.limit = limit;
    this.decoder = head.chunked ? new ChunkedDecoder() : null;
    this.left = head.length > 0 ? head.length : 0;
    this.expects = head.expects;
    this.parts = [];
    this.held = 0;
    this.seen = 0;
    this.waiter = null;
    this.discarding = false;
    this.failure = null;
    this.complete = this.decoder === null && this.left === 0;
    if (this.left > limit) {
      this.failure = new BodyTooLarge(limit);
    }
  }

  /** Takes received bytes; answers those beyond the end of the body. */
  feed(data) {
    let rest = EMPTY;
    let parts;
    if (this.decoder === null) {
      parts = [data.length > this.left ? data.subarray(0, this.left) : data];
      rest = data.subarray(parts[0].length);
      this.left -= parts[0].length;
      this.complete = this.left === 0;
    } else {
      try {
        parts = this.decoder.feed(data);
      } catch (failure) {
        return this.fail(failure);
      }
      this.complete = this.decoder.done;
      if (this.complete) {
        rest = this.decoder.raw;
      }
    }
    for (const part of parts) {
      this.seen += part.length;
      if (!this.discarding && part.length > 0) {
        this.parts.push(part);
        this.held += part.length;
      }
    }
    if (this.seen > this.limit) {
      return this.fail(new BodyTooLarge(this.limit));
    }
    this.wake();
    return rest;
  }

  fail(failure) {
    this.failure ??= failure;
    this.wake();
    return EMPTY;
  }

  wake() {
    const waiter = this.waiter;
    if (waiter !== null) {
      this.waiter = null;
      waiter();
    }
  }

  get full() {
    return this.held > BODY_BUFFER;
  }

  /** Whether nothing of the body can hinder the next request. */
  get drained() {
    return this.complete && this.failure === null;
  }

  /** Whether what is still to come may be awaited and thrown away. */
  get discardable() {
    return this.failure === null && (this.complete
      || (!this.expects && this.decoder === null && this.left <= BODY_BUFFER));
  }

  /** Whether the sender still waits for leave to send, or will find none. */
  get unasked() {
    return this.failure !== null || (this.expects && !this.complete);
  }

  /** Throws away what is there and what comes; the limit still holds. */
  discard() {
    this.discarding = true;
    this.parts = [];
    this.held = 0;
  }

  /** The next piece; null at the end. Throws what made the body unreadable. */
  async read() {
    while (this.parts.length === 0) {
      if (this.failure !== null) {
        throw this.failure;
      }
      if (this.complete) {
        return null;
      }
      if (this.expects) {
        this.expects = false;
        this.conn.socket.write('HTTP/1.1 100 Continue\r\n\r\n', 'latin1');
      }
      await new Promise((resolve) => {
        this.waiter = resolve;
      });
    }
    const part = this.parts.shift();
    this.held -= part.length;
    this.conn.resume();
    return part;
  }

  /** Everything, if it is here already; otherwise null. */
  whole() {
    if (this.failure !== null || !this.complete) {
      return null;
    }
    const parts = this.parts;
    this.parts = [];
    this.held = 0;
    return parts.length === 0 ? EMPTY : parts.length === 1 ? parts[0] : Buffer.concat(parts);
  }

  /** Everything not read yet. */
  async readAll() {
    const parts = [];
    for (let part = await this.read(); part !== null; part = await this.read()) {
      parts.push(part);
    }
    return parts.length === 1 ? parts[0] : Buffer.concat(parts);
  }
}

module.exports = { Body, BodyTooLarge, ChunkedDecoder, PeerGone, EMPTY };
