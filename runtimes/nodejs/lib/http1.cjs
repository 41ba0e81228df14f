// HTTP/1.1 heads: reading requests, composing responses.
//
// Only the platform's server speaks to a host, yet what it passes on was written by strangers. So everything ambiguous
// about where a message ends is refused: a length beside a transfer coding, repeated lengths, folded lines, a space before
// the colon, bare CR, LF or NUL.
//
// Node's own server is not used for handlers: it builds two stream objects and a table of headers a request, which costs
// more than all that is done here. Apps that want those objects get them (`apps.cjs`).
'use strict';

const { STATUS_CODES } = require('http');

// The server holds its own clients to less; beyond it somebody is up to something. In bytes.
const HEAD_MAX = 64 * 1024;

const REQUEST_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\xff]+) HTTP\/1\.([01])\r\n/;
// White space around the value is cut off afterwards: a pattern for it would try each way to share a run of blanks.
const FIELD = /([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\r\n\0]*)\r\n/y;
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const VALUE_BAD = /[\r\n\0]|[^\0-\xff]/;
const DIGITS = /^[0-9]{1,15}$/;
const HEX32 = /^[0-9a-f]{32}$/;

// The tag of what belongs to no request.
const NO_TAG = '-'.repeat(32);

// How the end of a response's body is marked.
const NO_BODY = 0;
const LENGTH = 1;
const CHUNKED = 2;
const UNTIL_CLOSE = 3;

/** A head or body that cannot be served; `status` says with what to answer. */
class BadRequest extends Error {
  constructor(message, status = 400) {
    super(message);
    this.status = status;
  }
}

/** A request without its body. `fields` alternates lower-case names and values, in order of arrival. */
class Head {
  constructor(method, target, minor) {
    this.method = method;
    this.target = target;
    this.minor = minor;
    this.fields = [];
    this.length = -1;
    this.chunked = false;
    this.keep = minor === 1;
    this.expects = false;
    this.requestId = null;
    this.tag = NO_TAG;
    this.deadlineMs = null;
    this.prefix = '';
  }

  /** The values of `name` (lower case) joined as HTTP allows, or undefined. */
  get(name) {
    const fields = this.fields;
    let found;
    for (let at = 0; at < fields.length; at += 2) {
      if (fields[at] === name) {
        // Cookies are the one list that a comma would damage.
        found = found === undefined ? fields[at + 1] : found + (name === 'cookie' ? '; ' : ', ') + fields[at + 1];
      }
    }
    return found;
  }
}

/** Reads a head that ends with its last field's CRLF, the empty line left out. */
function parseHead(text) {
  const line = REQUEST_LINE.exec(text);
  if (line === null) {
    throw badRequestLine(text);
  }
  const [whole, method, target, minor] = line;
  const head = new Head(method, target[0] === '/' ? target : originForm(method, target), minor === '1' ? 1 : 0);
  const fields = head.fields;
  let at = whole.length;
  while (at < text.length) {
    FIELD.lastIndex = at;
    const field = FIELD.exec(text);
    if (field === null) {
      throw new BadRequest('malformed header field, expected `name: value` on each line');
    }
    at = FIELD.lastIndex;
    const name = field[1].toLowerCase();
    const value = strip(field[2]);
    if (takeSpecial(head, name, value)) {
      fields.push(name, value);
    }
  }
  if (head.chunked) {
    if (head.length >= 0) {
      throw new BadRequest('both content-length and transfer-encoding are set, expected one');
    }
    if (head.minor === 0) {
      throw new BadRequest('transfer-encoding needs HTTP/1.1');
    }
  }
  return head;
}

function strip(value) {
  let start = 0;
  let end = value.length;
  while (start < end && (value.charCodeAt(start) === 32 || value.charCodeAt(start) === 9)) {
    start += 1;
  }
  while (end > start && (value.charCodeAt(end - 1) === 32 || value.charCodeAt(end - 1) === 9)) {
    end -= 1;
  }
  return start === 0 && end === value.length ? value : value.slice(start, end);
}

/** Notes what the host itself needs of a field; whether the function sees the field too. */
function takeSpecial(head, name, value) {
  switch (name) {
    case 'content-length':
      if (head.length >= 0) {
        throw new BadRequest('content-length is set twice');
      }
      if (!DIGITS.test(value)) {
        throw new BadRequest('malformed content-length, expected decimal digits');
      }
      head.length = Number(value);
      return true;
    case 'transfer-encoding':
      if (head.chunked) {
        throw new BadRequest('transfer-encoding is set twice');
      }
      if (value.toLowerCase() !== 'chunked') {
        throw new BadRequest('unsupported transfer-encoding, expected `chunked`', 501);
      }
      head.chunked = true;
      return true;
    case 'connection':
      for (const option of value.toLowerCase().split(',')) {
        const word = option.trim();
        if (word === 'close') {
          head.keep = false;
        } else if (word === 'keep-alive' && head.minor === 0) {
          head.keep = true;
        }
      }
      return true;
    case 'expect':
      if (value.toLowerCase() !== '100-continue') {
        throw new BadRequest('unsupported expectation, expected `100-continue`', 417);
      }
      head.expects = head.minor === 1;
      return true;
    case 'x-request-id': {
      head.requestId = value;
      const tag = (value.length === 32 ? value : value.replaceAll('-', '')).toLowerCase();
      head.tag = HEX32.test(tag) ? tag : NO_TAG;
      return true;
    }
    case 'x-tidegate-deadline-ms':
      if (DIGITS.test(value)) {
        head.deadlineMs = Number(value);
      }
      return false;
    case 'x-tidegate-path-prefix':
      head.prefix = value.replace(/\/+$/, '');
      return false;
    default:
      return !name.startsWith('x-tidegate-');
  }
}

function badRequestLine(text) {
  const line = text.slice(0, text.indexOf('\r\n'));
  if (/ HTTP\/[0-9.]+$/.test(line) && !/ HTTP\/1\.[01]$/.test(line)) {
    return new BadRequest('unsupported protocol version, expected HTTP/1.1', 505);
  }
  return new BadRequest('malformed request line, expected `METHOD target HTTP/1.1`');
}

function originForm(method, target) {
  if (target === '*' && method === 'OPTIONS') {
    return target;
  }
  const found = /^https?:\/\/[^/?#]*(.*)$/i.exec(target);
  if (found === null) {
    throw new BadRequest('malformed request target, expected a path that begins with `/`');
  }
  return found[1].startsWith('/') ? found[1] : `/${found[1]}`;
}

/** `status` as a whole number from 200 to 599; throws otherwise. */
function checkStatus(status) {
  const number = typeof status === 'number' ? status : Number(status);
  if (!Number.isInteger(number) || number < 200 || number > 599) {
    throw new RangeError(`status ${String(status)} is not a number from 200 to 599`);
  }
  return number;
}

const STATUS_LINES = new Map();

function statusLine(status) {
  let line = STATUS_LINES.get(status);
  if (line === undefined) {
    line = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Status'}\r\n`;
    STATUS_LINES.set(status, line);
  }
  return line;
}

/** A composed head: its text, how its body ends, that body's length or -1, whether the connection is kept. */
class Composed {
  constructor(text, mode, length, keep) {
    this.text = text;
    this.mode = mode;
    this.length = length;
    this.keep = keep;
  }
}

/**
 * Composes a response's head.
 *
 * `fields` alternates names and values; `length` is the body's in bytes, or -1 if it is not known.
 */
function compose(head, status, fields, length, outcome, close) {
  let text = statusLine(status);
  let keep = head.keep && !close;
  for (let at = 0; at < fields.length; at += 2) {
    const name = fields[at];
    const value = typeof fields[at + 1] === 'string' ? fields[at + 1] : String(fields[at + 1]);
    checkField(name, value);
    const low = name.toLowerCase();
    switch (low) {
      case 'content-length':
        // The true length is better knowledge, except where no body shows it.
        if (length < 0 || (head.method === 'HEAD' && length === 0)) {
          if (!DIGITS.test(value)) {
            throw new TypeError(`content-length ${value} is not a number`);
          }
          length = Number(value);
        }
        continue;
      // The server's own decisions; a function may not take them for it.
      case 'connection':
      case 'keep-alive':
      case 'transfer-encoding':
      case 'proxy-connection':
        continue;
      default:
        if (!low.startsWith('x-tidegate-')) {
          text += `${name}: ${value}\r\n`;
        }
    }
  }
  let mode;
  if (status === 204 || status === 304) {
    mode = NO_BODY;
  } else if (length >= 0) {
    mode = LENGTH;
    text += `content-length: ${length}\r\n`;
  } else if (head.minor === 1) {
    mode = CHUNKED;
    text += 'transfer-encoding: chunked\r\n';
  } else {
    mode = UNTIL_CLOSE;
    keep = false;
  }
  if (head.method === 'HEAD') {
    mode = NO_BODY;
  }
  if (outcome !== null) {
    text += `x-tidegate-outcome: ${outcome}\r\n`;
  }
  if (!keep) {
    text += 'connection: close\r\n';
  } else if (head.minor === 0) {
    text += 'connection: keep-alive\r\n';
  }
  return new Composed(`${text}\r\n`, mode, length, keep);
}

// Most functions answer with the same few fields: what was found right once need not be looked at again.
const CHECKED = new Set();
const CHECKED_MAX = 256;

function checkField(name, value) {
  const seen = `${name}\n${value}`;
  if (CHECKED.has(seen)) {
    return;
  }
  if (typeof name !== 'string' || !TOKEN.test(name)) {
    throw new TypeError(`header name ${JSON.stringify(String(name))} is not a token of letters, digits and dashes`);
  }
  const bad = VALUE_BAD.exec(value);
  if (bad !== null) {
    const what = bad[0] > '\xff' ? 'a character outside latin-1' : 'a line break or NUL';
    throw new TypeError(`header ${name} has ${what} in its value ${JSON.stringify(value)}`);
  }
  if (CHECKED.size < CHECKED_MAX && seen.length < 256) {
    CHECKED.add(seen);
  }
}

module.exports = {
  HEAD_MAX, NO_TAG, NO_BODY, LENGTH, CHUNKED, UNTIL_CLOSE, DIGITS,
  BadRequest, Head, parseHead, checkStatus, compose,
};
