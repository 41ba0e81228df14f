// What a handler returned, read as an HTTP answer; what it threw, as an error.
'use strict';

const { inspect, types } = require('util');
const { checkStatus } = require('./http1.cjs');
const { BodyTooLarge, EMPTY } = require('./body.cjs');
const { InvalidJson } = require('./event.cjs');
const web = require('./web.cjs');

const TEXT = 'text/plain; charset=utf-8';
const BINARY = 'application/octet-stream';
const JSON_TYPE = 'application/json';

/** An answer: status, fields (alternating names and values), body (string, Uint8Array, or something to iterate over). */
class Answer {
  constructor(status, fields, body) {
    this.status = status;
    this.fields = fields;
    this.body = body;
  }

  get streams() {
    return typeof this.body !== 'string' && !ArrayBuffer.isView(this.body);
  }
}

/** Reads a handler's result. Throws TypeError or RangeError, naming what is accepted. */
function shape(result) {
  if (typeof result === 'string') {
    return new Answer(200, ['content-type', TEXT], result);
  }
  if (result === undefined || result === null) {
    return new Answer(200, [], EMPTY);
  }
  if (typeof result === 'object') {
    if (web.isResponse(result)) {
      return web.read(result, Answer);
    }
    if ('statusCode' in result && !Array.isArray(result)) {
      return proxy(result);
    }
  }
  const { body, type } = read(result);
  return new Answer(200, type === null ? [] : ['content-type', type], body);
}

/** The shape that others have made known: `{ statusCode, headers, multiValueHeaders, cookies, body, isBase64Encoded }`. */
function proxy(result) {
  let value = result.body;
  if (result.isBase64Encoded && value !== undefined && value !== null) {
    if (typeof value !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(value) || value.length % 4 !== 0) {
      throw new TypeError('isBase64Encoded is set, and the body is not base64');
    }
    value = Buffer.from(value, 'base64');
  }
  const fields = [];
  add(fields, result.headers);
  add(fields, result.multiValueHeaders);
  for (const cookie of result.cookies ?? []) {
    fields.push('set-cookie', cookie);
  }
  const { body, type } = read(value);
  if (type !== null && !fields.some((name, at) => at % 2 === 0 && String(name).toLowerCase() === 'content-type')) {
    fields.push('content-type', type);
  }
  return new Answer(checkStatus(result.statusCode), fields, body);
}

function add(fields, headers) {
  if (headers === undefined || headers === null) {
    return;
  }
  const pairs = typeof headers[Symbol.iterator] === 'function' ? headers : Object.entries(headers);
  for (const [name, value] of pairs) {
    if (Array.isArray(value)) {
      for (const each of value) {
        fields.push(name, each);
      }
    } else if (value !== undefined && value !== null) {
      fields.push(name, value);
    }
  }
}

/** The bytes, or what gives them, of one returned value, and the content type that goes with it, or null. */
function read(value) {
  switch (typeof value) {
    case 'undefined':
      return { body: EMPTY, type: null };
    case 'string':
      return { body: value, type: TEXT };
    case 'number':
    case 'boolean':
      return { body: encode(value), type: JSON_TYPE };
    case 'object':
      break;
    default:
      throw unreadable(value);
  }
  if (value === null) {
    return { body: EMPTY, type: null };
  }
  if (ArrayBuffer.isView(value)) {
    return { body: new Uint8Array(value.buffer, value.byteOffset, value.byteLength), type: BINARY };
  }
  if (types.isAnyArrayBuffer(value)) {
    return { body: new Uint8Array(value), type: BINARY };
  }
  if (typeof value[Symbol.asyncIterator] === 'function' || typeof value.next === 'function') {
    return { body: value, type: BINARY };
  }
  return { body: encode(value), type: JSON_TYPE };
}

function encode(value) {
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw new TypeError(`handler returned ${value}, which JSON cannot hold`);
  }
  const text = JSON.stringify(value);
  if (text === undefined) {
    throw unreadable(value);
  }
  return text;
}

function unreadable(value) {
  return new TypeError(`handler returned ${kindOf(value)}, expected undefined, a string, bytes, something JSON can hold, `
    + 'a stream or iterator, { statusCode, headers, body } or a Response');
}

function kindOf(value) {
  return typeof value === 'object' ? value?.constructor?.name ?? 'an object' : `a ${typeof value}`;
}

/** One item of a streamed body as bytes. */
function piece(chunk) {
  if (typeof chunk === 'string') {
    return Buffer.from(chunk);
  }
  if (ArrayBuffer.isView(chunk)) {
    return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  }
  if (types.isAnyArrayBuffer(chunk)) {
    return Buffer.from(chunk);
  }
  throw new TypeError(`a streamed body gave ${kindOf(chunk)}, expected bytes or a string`);
}

/** Text is called text when a stream turns out to consist of it. */
function streamFields(fields, first) {
  return typeof first === 'string' ? fields.map((each) => (each === BINARY ? TEXT : each)) : fields;
}

/** The answer to what a function let propagate: status, message, outcome. */
function errorOf(failure) {
  if (failure instanceof InvalidJson) {
    return [400, failure.message, 'application'];
  }
  if (failure instanceof BodyTooLarge) {
    return [413, failure.message, 'application'];
  }
  return [500, 'function failed', 'function'];
}

/** Whether a failure answers the caller without a word in the log. */
function isCallersFault(failure) {
  return failure instanceof InvalidJson || failure instanceof BodyTooLarge;
}

const HERE = `${require('path').dirname(__dirname)}/`;

/** What was thrown as text: the stack without the host's own frames and Node's. */
function trace(failure) {
  try {
    const text = inspect(failure, { depth: 4 });
    return text.split('\n').filter((line) => !/^\s+at /.test(line)
      || !(line.includes(HERE) || line.includes('(node:') || /at (?:async )?node:/.test(line))).join('\n');
  } catch {
    return 'something was thrown whose text cannot be made';
  }
}

module.exports = { Answer, shape, piece, streamFields, errorOf, isCallersFault, trace };
