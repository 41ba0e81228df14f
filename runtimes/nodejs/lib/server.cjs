// Connections and exchanges: one request at a time on each, answered by what the function's shape asks for.
//
// Reading pauses while a body is buffered beyond a bound, and writing waits while the socket is full, so a slow side slows
// the other down instead of filling memory.
'use strict';

const logs = require('./logs.cjs');
const { answerInto } = require('./respond.cjs');
const { errorOf, isCallersFault, trace } = require('./answers.cjs');
const { Body, PeerGone, EMPTY } = require('./body.cjs');
const {
  BadRequest, CHUNKED, HEAD_MAX, Head, LENGTH, NO_BODY, NO_TAG, compose, parseHead,
} = require('./http1.cjs');

// A cancel may overtake its request. So many are remembered to be refused on arrival.
const EARLY_CANCELS = 64;

// Connections taken by one host at most. The server keeps one a worker thread and slot; this only bounds what a fault on
// its side could cost.
const CONNECTIONS_MAX = 4096;

// After the server has gone: what is in flight may take so long, in milliseconds.
const ORPHAN_GRACE_MS = 1000;

/** One request and its answer. */
class Exchange {
  constructor(conn, head, server) {
    this.conn = conn;
    this.head = head;
    this.server = server;
    this.body = new Body(conn, head, server.bodyLimit);
    this.scope = new logs.Scope(head.tag);
    this.scope.x = this;
    this.started = false;
    this.finished = false;
    this.cancelled = false;
    this.keep = false;
    this.mode = NO_BODY;
    this.left = -1;
    this.headText = '';
    this.abort = null;
  }

  /** Aborted when the caller has gone or time is up. */
  get signal() {
    if (this.abort === null) {
      this.abort = new AbortController();
      if (this.conn.lost || this.cancelled) {
        this.abort.abort();
      }
    }
    return this.abort.signal;
  }

  /** A whole answer at once; the log goes first, so that it is there when the call returns. */
  respond(status, fields, body, outcome = null) {
    const text = typeof body === 'string';
    const size = text ? Buffer.byteLength(body) : body.length;
    const head = compose(this.head, status, fields, size, outcome, !this.body.discardable);
    this.keep = head.keep;
    logs.flush(this.scope);
    this.started = true;
    if (head.mode === NO_BODY || size === 0) {
      this.send(head.text, 'latin1');
    } else if (text && size === body.length) {
      // Nothing but ASCII in the body: one string, one write.
      this.send(head.text + body, 'latin1');
    } else {
      this.conn.socket.cork();
      this.send(head.text, 'latin1');
      this.send(body, 'utf8');
      this.conn.socket.uncork();
    }
    this.end();
  }

  /** Composes the head of a streamed answer; it leaves with the first `write`, or with `finish`. */
  start(status, fields, length = -1) {
    const head = compose(this.head, status, fields, length, null, this.body.unasked);
    this.keep = head.keep;
    this.mode = head.mode;
    this.left = head.length;
    this.headText = head.text;
  }

  /** Sends a part of the body; resolves when more may come. */
  async write(data) {
    const socket = this.conn.socket;
    socket.cork();
    try {
      this.sendHead();
      if (this.mode === CHUNKED) {
        if (data.length > 0) {
          this.send(`${data.length.toString(16)}\r\n`, 'latin1');
          this.send(data);
          this.send('\r\n', 'latin1');
        }
      } else if (this.mode !== NO_BODY) {
        if (this.mode === LENGTH) {
          if (data.length > this.left) {
            throw new RangeError('the body is longer than its content-length');
          }
          this.left -= data.length;
        }
        this.send(data);
      }
    } finally {
      socket.uncork();
    }
    await this.conn.drained();
  }

  /** The end of a body sent with `write`. */
  finish() {
    logs.flush(this.scope);
    this.sendHead();
    if (this.mode === CHUNKED) {
      this.send('0\r\n\r\n', 'latin1');
    } else if (this.mode === LENGTH && this.left > 0) {
      throw new RangeError(`the body is ${this.left} bytes shorter than its content-length`);
    }
    this.end();
  }

  sendHead() {
    if (!this.started) {
      this.started = true;
      this.send(this.headText, 'latin1');
    }
  }

  send(data, encoding) {
    if (this.conn.lost || this.cancelled) {
      throw new PeerGone();
    }
    this.conn.socket.write(data, encoding);
  }

  /** The answer is complete: the connection is free, whatever the function still does. */
  end() {
    this.finished = true;
    this.conn.done(this);
  }

  /** Answers what the function threw, or breaks the answer off. */
  fail(failure) {
    if (this.cancelled || (failure instanceof PeerGone && this.conn.lost)) {
      return;
    }
    if (failure instanceof BadRequest) {
      // The fault is in the body as sent: neither the function's nor the caller's.
      if (!this.started) {
        this.refuse(failure.status, failure.message, 'platform');
      }
      return;
    }
    if (this.started || !isCallersFault(failure)) {
      this.complain(failure);
    }
    if (!this.started) {
      this.refuse(...errorOf(failure));
    } else if (!this.finished) {
      // No end mark: the caller must not take half an answer for a whole one.
      this.conn.break(this);
    }
  }

  complain(failure) {
    logs.current.run(this.scope, () => process.stderr.write(`${trace(failure)}\n`));
    logs.flush(this.scope);
  }

  refuse(status, message, outcome) {
    const body = JSON.stringify({ error: message, requestId: this.head.requestId });
    try {
      this.respond(status, ['content-type', 'application/json'], body, outcome);
    } catch (failure) {
      if (!(failure instanceof PeerGone)) {
        throw failure;
      }
    }
  }
}

/** One keep-alive connection: requests one after another. */
class Connection {
  constructor(socket, server) {
    this.socket = socket;
    this.server = server;
    this.buf = EMPTY;
    this.x = null;
    this.lost = false;
    this.paused = false;
    this.waiters = [];
    socket.on('data', (data) => this.take(data));
    socket.on('drain', () => this.release());
    // What a peer that has gone leaves behind is told by the close that follows.
    socket.on('error', () => {});
    socket.on('end', () => this.lose());
    socket.on('close', () => this.lose());
  }

  take(data) {
    const x = this.x;
    if (x !== null && !x.body.complete && x.body.failure === null) {
      data = x.body.feed(data);
      if (x.body.full) {
        this.pause();
      }
      if (x.finished && (x.body.complete || x.body.failure !== null)) {
        this.buf = data;
        this.done(x);
        return;
      }
    }
    if (data.length > 0) {
      this.buf = this.buf.length > 0 ? Buffer.concat([this.buf, data]) : data;
      if (this.x === null) {
        this.next();
      } else if (this.buf.length > HEAD_MAX) {
        this.pause();
      }
    }
  }

  next() {
    const buf = this.buf;
    let head;
    try {
      const end = buf.indexOf('\r\n\r\n', 0, 'latin1');
      if (end < 0 && buf.length <= HEAD_MAX) {
        // An empty line before a request line is to be forgiven.
        if (buf.length >= 2 && buf[0] === 13 && buf[1] === 10) {
          this.buf = buf.subarray(2);
        }
        return;
      }
      if (end < 0 || end > HEAD_MAX) {
        throw new BadRequest(`the request head is over ${HEAD_MAX} bytes`, 431);
      }
      let from = 0;
      while (buf[from] === 13 && buf[from + 1] === 10 && from < end) {
        from += 2;
      }
      head = parseHead(buf.latin1Slice(from, end + 2));
      this.buf = buf.length === end + 4 ? EMPTY : buf.subarray(end + 4);
    } catch (failure) {
      this.buf = EMPTY;
      this.refuse(failure);
      return;
    }
    const x = new Exchange(this, head, this.server);
    this.x = x;
    if (this.buf.length > 0 && !x.body.complete) {
      this.buf = x.body.feed(this.buf);
    }
    this.server.begin(x);
  }

  refuse(failure) {
    const status = failure instanceof BadRequest ? failure.status : 400;
    const body = JSON.stringify({ error: failure.message });
    const none = new Head('GET', '/', 1);
    const head = compose(none, status, ['content-type', 'application/json'], Buffer.byteLength(body), 'platform', true);
    this.socket.end(head.text + body, 'latin1');
  }

  /** Resolves when the socket takes more, or is lost. */
  drained() {
    if (!this.socket.writableNeedDrain || this.lost) {
      return undefined;
    }
    return new Promise((resolve) => {
      this.waiters.push(resolve);
    });
  }

  release() {
    const waiters = this.waiters;
    if (waiters.length > 0) {
      this.waiters = [];
      for (const each of waiters) {
        each();
      }
    }
  }

  pause() {
    if (!this.paused && !this.lost) {
      this.paused = true;
      this.socket.pause();
    }
  }

  resume() {
    if (this.paused && !this.lost && !(this.x !== null && this.x.body.full)) {
      this.paused = false;
      this.socket.resume();
    }
  }

  lose() {
    if (this.lost) {
      return;
    }
    this.lost = true;
    this.server.connections.delete(this);
    this.release();
    const x = this.x;
    if (x !== null) {
      if (!x.body.complete) {
        x.body.fail(new PeerGone('the request ended before its body was complete'));
      }
      x.abort?.abort();
    }
    this.socket.destroy();
  }

  /** The exchange is over: read on, or close. A second call changes nothing. */
  done(x) {
    if (this.x !== x) {
      return;
    }
    if (x.keep && !this.lost && !x.body.complete && x.body.discardable) {
      // `take` calls again when the rest of the body has come.
      x.body.discard();
      this.resume();
      return;
    }
    this.x = null;
    if (this.lost) {
      return;
    }
    if (!(x.keep && x.body.drained)) {
      this.socket.end();
    } else {
      this.resume();
      if (this.buf.length > 0) {
        // Not from within: a caller that sends many at once would deepen the stack with each.
        setImmediate(() => this.x === null && !this.lost && this.next());
      } else {
        this.server.idle();
      }
    }
  }

  /** Ends the connection so that nobody takes what was sent for the whole. */
  break(x) {
    if (this.x === x) {
      this.x = null;
    }
    this.lost = true;
    this.server.connections.delete(this);
    this.release();
    x.abort?.abort();
    this.socket.destroy();
  }
}

/** Runs a function's `call(exchange)` on connections until told to drain. */
class Server {
  constructor(control, config) {
    this.control = control;
    this.config = config;
    this.bodyLimit = config.max_body;
    this.connections = new Set();
    this.running = new Set();
    this.kept = new Set();
    this.early = [];
    this.draining = false;
    this.call = null;
    this.onDrained = null;
  }

  accept(socket) {
    if (this.connections.size >= CONNECTIONS_MAX) {
      socket.destroy();
      return;
    }
    this.connections.add(new Connection(socket, this));
  }

  begin(x) {
    if (this.early.length > 0 && x.head.tag !== NO_TAG && this.early.includes(x.head.tag)) {
      x.cancelled = true;
      x.conn.break(x);
      return;
    }
    this.running.add(x);
    logs.current.run(x.scope, serve, this, x);
  }

  ended(x) {
    this.running.delete(x);
    logs.flush(x.scope);
    if (x.cancelled) {
      this.control?.idle(x.head.tag);
    }
    this.idle();
  }

  /** The call of this tag is not wanted any more. */
  cancel(tag) {
    for (const x of this.running) {
      if (x.head.tag === tag) {
        x.cancelled = true;
        x.conn.break(x);
        if (!x.body.complete) {
          x.body.fail(new PeerGone('the call was cancelled'));
        }
        return;
      }
    }
    this.early.push(tag);
    if (this.early.length > EARLY_CANCELS) {
      this.early.shift();
    }
    this.control?.idle(tag);
  }

  /** Counts a promise as work in flight. */
  keepFor(promise) {
    const kept = Promise.resolve(promise).catch((failure) => {
      process.stderr.write(`${trace(failure)}\n`);
    }).finally(() => {
      this.kept.delete(kept);
      this.idle();
    });
    this.kept.add(kept);
  }

  /** Ends when nothing is in flight any more; `orphaned`: the server has gone, and nobody waits for long. */
  drain(orphaned) {
    this.draining = true;
    if (orphaned) {
      setTimeout(() => this.onDrained?.(), ORPHAN_GRACE_MS);
    }
    // One turn for what has arrived with the message.
    setImmediate(() => this.idle());
  }

  idle() {
    if (!this.draining || this.running.size > 0 || this.kept.size > 0) {
      return;
    }
    for (const conn of this.connections) {
      if (conn.buf.length > 0 && !conn.lost && conn.x === null) {
        return;
      }
    }
    const left = [...this.connections].filter((conn) => !conn.lost);
    let open = left.length;
    const closed = () => {
      open -= 1;
      if (open <= 0) {
        this.onDrained?.();
      }
    };
    if (open === 0) {
      this.onDrained?.();
      return;
    }
    this.running.add(null);
    for (const conn of left) {
      // What was written leaves first.
      conn.socket.end(closed);
    }
  }
}

async function serve(server, x) {
  try {
    if (x.body.failure !== null) {
      throw x.body.failure;
    }
    let result = server.call(x);
    if (result !== null && typeof result === 'object' && typeof result.then === 'function') {
      result = await result;
    }
    // Undefined from a call that answers by itself.
    if (result !== undefined) {
      const streaming = answerInto(x, result);
      if (streaming !== undefined) {
        await streaming;
      }
    }
  } catch (failure) {
    x.fail(failure);
  }
  server.ended(x);
}

module.exports = { Server, Exchange, Connection };
