// An answer, made of a returned value in the way of Express's `send`.
'use strict';

const { createHash } = require('crypto');

// Characters of the digest in an ETag: all of SHA-1 in base64 but its padding.
const DIGEST = 27;

// Types that get a charset though they are no text, by Express 5's table.
const WITH_CHARSET = new Set(['3gpdash-qoe-report+xml', 'beep+xml', 'cda+xml', 'elm+json', 'emergencycalldata.cap+xml',
  'fhir+json', 'fhir+xml', 'hl7v2+xml', 'im-iscomposing+xml', 'javascript', 'json', 'manifest+json', 'msc-ivr+xml',
  'msc-mixer+xml', 'pidf+xml', 'pidf-diff+xml', 'poc-settings+xml', 'vnd.omads-email+xml', 'vnd.omads-file+xml',
  'vnd.omads-folder+xml', 'vnd.syncml+xml', 'vnd.syncml.dm+wbxml', 'vnd.syncml.dm+xml', 'vnd.syncml.dmddf+xml',
  'vnd.syncml.dmtnds+xml', 'vnd.wap.wbxml'].map((name) => `application/${name}`));

// What a type without a slash stands for under Express 5.
const ENDINGS = {
  bin: 'application/octet-stream', css: 'text/css', csv: 'text/csv', gif: 'image/gif', gz: 'application/gzip', htm: 'text/html',
  html: 'text/html', jpeg: 'image/jpeg', jpg: 'image/jpeg', js: 'text/javascript', json: 'application/json', md: 'text/markdown',
  mp3: 'audio/mpeg', mp4: 'video/mp4', pdf: 'application/pdf', png: 'image/png', svg: 'image/svg+xml', txt: 'text/plain',
  webp: 'image/webp', xml: 'application/xml', yaml: 'text/yaml', yml: 'text/yaml', zip: 'application/zip',
};

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const VALUE_BAD = /[^\t\x20-\x7e\x80-\xff]/;

/** Whether a value is written as JSON by the template itself: an array, or an object of no class. */
function isPlain(value) {
  return Boolean(value) && (value.constructor === Array || value.constructor === Object);
}

class Reply {
  #modern;
  #fields = new Map();

  /** `modern`: by the rules of Express 5. */
  constructor(modern) {
    this.#modern = modern;
    this.status = 200;
    /** A string, bytes, or undefined for none. */
    this.body = undefined;
  }

  /** The header fields as pairs; of several values an array. */
  pairs() {
    return [...this.#fields.values()];
  }

  get(name) {
    return this.#fields.get(name.toLowerCase())?.[1];
  }

  /** Puts a field in the place of one of that name, as it is. */
  put(name, value) {
    if (!NAME.test(name) || [].concat(value).some((each) => VALUE_BAD.test(each))) {
      // Node's own complaint, which the caller is going to read.
      const http = require('http');
      http.validateHeaderName(name);
      for (const each of [].concat(value)) {
        http.validateHeaderValue(name, each);
      }
    }
    this.#fields.set(name.toLowerCase(), [name, value]);
  }

  remove(name) {
    this.#fields.delete(name.toLowerCase());
  }

  /** Sets a field as a handler does: values become text, a type of text gets a charset. */
  set(name, given) {
    let value = Array.isArray(given) ? given.map(String) : String(given);
    if (name.toLowerCase() === 'content-type') {
      if (Array.isArray(value)) {
        throw new TypeError('Content-Type cannot be set to an Array');
      }
      value = this.#withCharset(value);
      if (value === undefined) {
        this.remove(name);
        return;
      }
    }
    this.put(name, value);
  }

  setAll(fields) {
    // eslint-disable-next-line guard-for-in
    for (const name in fields) {
      this.set(name, fields[name]);
    }
  }

  #withCharset(given) {
    let value = given;
    if (this.#modern && !value.includes('/')) {
      value = ENDINGS[/[^.\\]*$/.exec(value)[0].toLowerCase()];
      if (value === undefined) {
        return undefined;
      }
    }
    const type = value.split(';', 1)[0].trim();
    if (this.#modern) {
      const known = /^text\//i.test(type) || WITH_CHARSET.has(type.toLowerCase());
      return known && !value.includes('charset') ? `${value}; charset=utf-8` : value;
    }
    const known = /^text\/|^application\/(?:javascript|json)/.test(type);
    return known && !/;\s*charset\s*=/.test(value) ? `${value}; charset=utf-8` : value;
  }

  /** Sets the status. Express 5 takes whole numbers alone. */
  setStatus(code) {
    if (this.#modern && !Number.isInteger(code)) {
      throw new TypeError(`Invalid status code: ${JSON.stringify(code)}. Status code must be an integer.`);
    }
    if (this.#modern && (code < 100 || code > 999)) {
      throw new RangeError(`Invalid status code: ${JSON.stringify(code)}. Status code must be greater than 99 and less than 1000.`);
    }
    this.status = code;
  }

  /** Makes `value` the body. `method` and `headers` are the request's. */
  send(value, method, headers) {
    let chunk = value;
    if (typeof chunk === 'number' && !this.#modern) {
      if (!this.get('content-type')) {
        this.put('Content-Type', 'text/plain; charset=utf-8');
      }
      this.status = chunk;
      chunk = require('http').STATUS_CODES[chunk];
    }
    if (typeof chunk === 'number' || typeof chunk === 'boolean' || (typeof chunk === 'object' && chunk !== null && !this.#isBytes(chunk))) {
      chunk = JSON.stringify(chunk);
      if (!this.get('content-type')) {
        this.put('Content-Type', 'application/json; charset=utf-8');
      }
    }
    if (typeof chunk === 'string') {
      const type = this.get('content-type');
      this.put('Content-Type', type === undefined ? 'text/html; charset=utf-8' : this.#inUtf8(type));
    } else if (chunk === null) {
      chunk = '';
      if (!this.#modern && this.get('content-type') !== undefined) {
        this.put('Content-Type', this.#inUtf8(this.get('content-type')));
      }
    } else if (chunk !== undefined && this.#isBytes(chunk) && !this.get('content-type')) {
      this.put('Content-Type', 'application/octet-stream');
    } else if (typeof chunk !== 'undefined' && !ArrayBuffer.isView(chunk)) {
      // A symbol, a function: Node's own complaint.
      chunk = Buffer.from(chunk);
    }
    this.#finish(chunk, method, headers);
  }

  #inUtf8(type) {
    return inUtf8(type, !this.#modern);
  }

  #isBytes(value) {
    return this.#modern ? ArrayBuffer.isView(value) : Buffer.isBuffer(value);
  }

  #finish(chunk, method, headers) {
    const status = checkStatus(this.status);
    this.status = status;
    this.body = ArrayBuffer.isView(chunk) ? new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength) : chunk;
    if (chunk !== undefined) {
      const size = typeof chunk === 'string' ? Buffer.byteLength(chunk) : this.body.byteLength;
      if (!this.get('etag')) {
        this.put('ETag', `W/"${size.toString(16)}-${createHash('sha1').update(this.body).digest('base64').slice(0, DIGEST)}"`);
      }
      this.put('Content-Length', String(size));
    }
    if ((method === 'GET' || method === 'HEAD') && ((status >= 200 && status < 300) || status === 304) && this.#isFresh(headers)) {
      this.status = 304;
    }
    if (this.status === 204 || this.status === 304) {
      for (const name of ['content-type', 'content-length', 'transfer-encoding']) {
        this.remove(name);
      }
      this.body = undefined;
    } else if (this.status === 205) {
      this.put('Content-Length', '0');
      this.body = undefined;
    }
    if (this.body !== undefined && this.body.length === 0) {
      this.body = undefined;
    }
  }

  /** Whether the caller has just this already. */
  #isFresh(headers) {
    const since = headers['if-modified-since'];
    const match = headers['if-none-match'];
    if ((!since && !match) || /(?:^|,)\s*?no-cache\s*?(?:,|$)/.test(headers['cache-control'] ?? '')) {
      return false;
    }
    if (match) {
      if (match !== '*') {
        const tag = String(this.get('etag') ?? '');
        const weak = (text) => text.replace(/^W\//, '');
        return tag !== '' && match.split(',').some((each) => weak(each.trim()) === weak(tag))
          && (this.#modern || !since || this.#unmodified(since));
      }
      if (this.#modern) {
        return true;
      }
    }
    return !since || this.#unmodified(since);
  }

  #unmodified(since) {
    return Date.parse(this.get('last-modified')) <= Date.parse(since);
  }
}

/** A media type with `charset=utf-8`, whatever charset it had; `sorted`: parameters in order of their names. */
function inUtf8(value, sorted) {
  const [type, ...rest] = String(value).split(/;(?=(?:[^"]*"[^"]*")*[^"]*$)/);
  const media = type.trim().toLowerCase();
  if (!/^[^\s/;]+\/[^\s/;]+$/.test(media)) {
    throw new TypeError('invalid media type');
  }
  const parameters = new Map();
  for (const part of rest) {
    const found = /^\s*([^\s=]+)\s*=\s*(.*?)\s*$/.exec(part);
    if (found === null) {
      throw new TypeError('invalid parameter format');
    }
    parameters.set(found[1].toLowerCase(), found[2]);
  }
  parameters.set('charset', 'utf-8');
  const pairs = [...parameters];
  if (sorted) {
    pairs.sort(([a], [b]) => (a < b ? -1 : 1));
  }
  return [media, ...pairs.map(([name, text]) => `${name}=${text}`)].join('; ');
}

/** A status as Node sends it. Throws what Node throws where it cannot. */
function checkStatus(status) {
  // As Node has it: text counts as the number that it spells.
  // eslint-disable-next-line no-bitwise
  const code = status | 0;
  if (code < 100 || code > 999) {
    const failure = new RangeError(`Invalid status code: ${String(status)}`);
    failure.code = 'ERR_HTTP_INVALID_STATUS_CODE';
    failure.name = 'RangeError [ERR_HTTP_INVALID_STATUS_CODE]';
    throw failure;
  }
  if (code < 200 || code > 599) {
    throw new RangeError(`status ${code} is not from 200 to 599`);
  }
  return code;
}

module.exports = { Reply, isPlain };
