// Standard output and error of user code, line by line, by request.
//
// `process.stdout` and `process.stderr` become streams that send each finished line as one control message with the id of
// the request that wrote it, taken from the asynchronous context: exact however many requests run at once. What bypasses
// them (child processes, native code) reaches the instance's pipes and belongs to no request.
'use strict';

const { AsyncLocalStorage } = require('async_hooks');
const { Writable } = require('stream');
const { NO_TAG } = require('./http1.cjs');

// Longer lines are split, so that one line cannot grow without bound in memory and a message stays far under the channel's
// 64 KiB. In bytes.
const LINE_MAX = 16 * 1024;

/** The log side of one request: its tag and its unfinished lines. */
class Scope {
  constructor(tag) {
    this.tag = tag;
    this.out = '';
    this.err = '';
    /** The exchange, for failures that reach the process and not the handler. */
    this.x = null;
  }
}

// Module code, timers that outlive nothing: lines of the instance, of no request.
const OUTSIDE = new Scope(NO_TAG);

const current = new AsyncLocalStorage();

let control = null;

function scope() {
  return current.getStore() ?? OUTSIDE;
}

/** A stream whose lines become log messages. Nothing is queued: a line is with the server when `write` returns. */
class LogStream extends Writable {
  constructor(letter, held, fd) {
    super({ decodeStrings: false });
    this.letter = letter;
    this.held = held;
    this.fd = fd;
    this._type = 'pipe';
    this._isStdio = true;
  }

  // The whole of `write` rather than `_write`: the queue of a Writable would cost more than the message.
  write(chunk, encoding, done) {
    const callback = typeof encoding === 'function' ? encoding : done;
    let text = chunk;
    if (typeof chunk !== 'string') {
      if (!ArrayBuffer.isView(chunk)) {
        throw new TypeError(`write() takes a string or bytes, not ${chunk === null ? 'null' : typeof chunk}`);
      }
      text = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).toString();
    } else if (typeof encoding === 'string' && !/^utf-?8$/i.test(encoding)) {
      text = Buffer.from(chunk, encoding).toString();
    }
    take(this, scope(), text);
    if (typeof callback === 'function') {
      process.nextTick(callback);
    }
    return true;
  }

  // Closing standard output would only hide the log of later requests.
  end(chunk, encoding, done) {
    if (chunk !== undefined && chunk !== null && typeof chunk !== 'function') {
      this.write(chunk, encoding);
    }
    const callback = [chunk, encoding, done].find((each) => typeof each === 'function');
    if (callback !== undefined) {
      process.nextTick(callback);
    }
    return this;
  }

  destroy() {
    return this;
  }
}

function take(stream, to, text) {
  let held = to[stream.held] === '' ? text : to[stream.held] + text;
  if (held.includes('\n')) {
    const lines = held.split('\n');
    held = lines.pop();
    for (const line of lines) {
      emit(stream.letter, to.tag, line);
    }
  }
  if (held.length > LINE_MAX) {
    emit(stream.letter, to.tag, held);
    held = '';
  }
  to[stream.held] = held;
}

function emit(letter, tag, line) {
  const head = `L${letter}${tag}`;
  if (line.length * 3 <= LINE_MAX) {
    control.send(head + line);
    return;
  }
  let bytes = Buffer.from(line);
  while (bytes.length > LINE_MAX) {
    let cut = LINE_MAX;
    // Not inside a character: continuation bytes begin with the bits 10.
    while ((bytes[cut] & 0xc0) === 0x80) {
      cut -= 1;
    }
    control.send(Buffer.concat([Buffer.from(head), bytes.subarray(0, cut)]));
    bytes = bytes.subarray(cut);
  }
  control.send(Buffer.concat([Buffer.from(head), bytes]));
}

/** Sends a request's unfinished lines as they are. Called before its answer ends, so that the log is complete then. */
function flush(of) {
  if (of.out !== '') {
    emit('o', of.tag, of.out);
    of.out = '';
  }
  if (of.err !== '') {
    emit('e', of.tag, of.err);
    of.err = '';
  }
}

/** Replaces `process.stdout` and `process.stderr`; `console` finds them at its first use. */
function install(channel) {
  control = channel;
  const out = new LogStream('o', 'out', 1);
  const err = new LogStream('e', 'err', 2);
  Object.defineProperty(process, 'stdout', { configurable: true, enumerable: true, get: () => out });
  Object.defineProperty(process, 'stderr', { configurable: true, enumerable: true, get: () => err });
}

module.exports = { Scope, OUTSIDE, current, scope, flush, install };
