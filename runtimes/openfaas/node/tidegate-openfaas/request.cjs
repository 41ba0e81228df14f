// What a handler sees of a request: headers as Node joins them, the query and the body as Express reads them.
'use strict';

const { parseForm, parseFlat } = require('./forms.cjs');

// The limit of a body whose template says nothing else, in bytes.
const LIMIT = 100 * 1024;

// Parameters of a query or form at most, and how deep they nest.
const QUERY = { parameters: 1000, depth: 5, arrays: 1000, strict: false };
const FORM = { parameters: 1000, depth: 32, arrays: 100, strict: true };

// Fields of which the first one counts.
const SINGLE = new Set(['age', 'authorization', 'content-length', 'content-type', 'etag', 'expires', 'from', 'host',
  'if-modified-since', 'if-unmodified-since', 'last-modified', 'location', 'max-forwards', 'proxy-authorization', 'referer',
  'retry-after', 'server', 'user-agent']);

const UNITS = { '': 1, b: 1, kb: 2 ** 10, mb: 2 ** 20, gb: 2 ** 30, tb: 2 ** 40, pb: 2 ** 50 };

/** A request that is refused before the handler sees it. */
class HttpError extends Error {
  constructor(status, name, message) {
    super(message);
    this.name = name;
    this.status = status;
    // The page shows it; where in this file is no news to a caller.
    this.stack = `${name}: ${message}`;
  }
}

/** What the environment says of bodies. */
function limits(env) {
  return { raw: env.RAW_BODY === 'true', rawLimit: size(env, 'MAX_RAW_SIZE'), jsonLimit: size(env, 'MAX_JSON_SIZE') };
}

function size(env, name) {
  const text = env[name];
  if (text === undefined || text === '') {
    return LIMIT;
  }
  const found = /^\+?(\d+(?:\.\d+)?) *(b|kb|mb|gb|tb|pb)?$/i.exec(text);
  if (found === null) {
    throw new TypeError(`${name} is ${JSON.stringify(text)}, expected a size such as 1mb`);
  }
  return Math.floor(Number(found[1]) * UNITS[(found[2] ?? '').toLowerCase()]);
}

/** The event of a request. Throws an HttpError, or what the body's parser throws with a `status`. */
function requestOf(settings, { method, path, query, pairs, body }) {
  const headers = headersOf(pairs);
  if (!headers['content-type']) {
    headers['content-type'] = 'text/plain';
  }
  const parsed = bodyOf(settings, headers, body);
  return {
    body: parsed,
    headers,
    method,
    query: settings.modern ? parseFlat(query) : parseForm(query, QUERY),
    path,
  };
}

/** Throws an HttpError for a path whose percent escapes are none. */
function decodable(path) {
  try {
    decodeURIComponent(path);
  } catch {
    throw new HttpError(400, 'URIError', `Failed to decode param '${path.slice(1)}'`);
  }
}

/** Fields as Node's own requests have them. */
function headersOf(pairs) {
  const headers = {};
  for (const [name, value] of pairs) {
    const before = headers[name];
    if (name === 'set-cookie') {
      headers[name] = [...before ?? [], value];
    } else if (before === undefined) {
      headers[name] = value;
    } else if (!SINGLE.has(name)) {
      headers[name] = `${before}${name === 'cookie' ? '; ' : ', '}${value}`;
    }
  }
  return headers;
}

function bodyOf(settings, headers, bytes) {
  const none = settings.modern ? undefined : {};
  if (headers['transfer-encoding'] === undefined && Number.isNaN(Number.parseInt(headers['content-length'], 10))) {
    return none;
  }
  const type = mediaType(headers['content-type'], settings.modern);
  if (type === null) {
    return none;
  }
  if (settings.raw) {
    return inflated(settings, headers, bytes, settings.rawLimit);
  }
  const charset = charsetOf(headers['content-type']) ?? 'utf-8';
  if (type.startsWith('text/')) {
    return decoded(inflated(settings, headers, bytes, LIMIT), charset);
  }
  if (type === 'application/json') {
    if (!charset.startsWith('utf-')) {
      throw unsupported(charset);
    }
    return parseJson(decoded(inflated(settings, headers, bytes, settings.jsonLimit), charset));
  }
  if (type === 'application/x-www-form-urlencoded') {
    if (charset !== 'utf-8' && !(settings.modern && charset === 'iso-8859-1')) {
      throw unsupported(charset);
    }
    return parseBodyForm(decoded(inflated(settings, headers, bytes, LIMIT), charset), charset);
  }
  return none;
}

const PARAMETERS = /^(?:\s*;\s*[\w!#$%&'*+.^`|~-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[\w!#$%&'*+.^`|~-]+))*\s*$/;

/** The type without its parameters, or null where it is none; parameters have to be such unless `lenient`. */
function mediaType(value, lenient) {
  const at = value.indexOf(';');
  if (!lenient && at >= 0 && !PARAMETERS.test(value.slice(at))) {
    return null;
  }
  const found = /^ *([a-z0-9][\w!#$&^-]{0,126}\/[a-z0-9][\w!#$&^.+-]{0,126}) *$/i.exec(value.split(';', 1)[0]);
  return found === null ? null : found[1].toLowerCase();
}

function charsetOf(value) {
  return /;\s*charset\s*=\s*"?([^\s";]+)/i.exec(value)?.[1].toLowerCase();
}

function unsupported(charset) {
  return new HttpError(415, 'UnsupportedMediaTypeError', `unsupported charset "${charset.toUpperCase()}"`);
}

function tooLarge() {
  return new HttpError(413, 'PayloadTooLargeError', 'request entity too large');
}

/** The body's bytes without their content encoding. */
function inflated(settings, headers, bytes, limit) {
  const encoding = (headers['content-encoding'] ?? 'identity').toLowerCase();
  if (encoding === 'identity') {
    if (bytes.length > limit) {
      throw tooLarge();
    }
    return bytes;
  }
  const zlib = require('zlib');
  const inflate = { deflate: zlib.inflateSync, gzip: zlib.gunzipSync, br: settings.modern ? zlib.brotliDecompressSync : undefined,
    zstd: settings.modern ? zlib.zstdDecompressSync : undefined }[encoding];
  if (inflate === undefined) {
    throw new HttpError(415, 'UnsupportedMediaTypeError', `unsupported content encoding "${encoding}"`);
  }
  try {
    return inflate(bytes, { maxOutputLength: Math.max(limit, 1) });
  } catch (failure) {
    throw failure.code === 'ERR_BUFFER_TOO_LARGE' ? tooLarge() : new HttpError(400, 'Error', failure.message);
  }
}

function decoded(bytes, charset) {
  let text;
  if (charset === 'utf-8' || charset === 'utf8') {
    text = bytes.toString();
  } else if (charset === 'iso-8859-1' || charset === 'latin1') {
    text = bytes.latin1Slice();
  } else {
    try {
      return new TextDecoder(charset).decode(bytes);
    } catch {
      throw unsupported(charset);
    }
  }
  return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
}

/** An object or an array; a body of nothing is an empty object. */
function parseJson(text) {
  if (text.length === 0) {
    return {};
  }
  try {
    const first = /^[ \t\n\r]*([^ \t\n\r])/.exec(text)?.[1];
    if (first !== '{' && first !== '[') {
      strict(text, first);
    }
    return JSON.parse(text);
  } catch (failure) {
    throw new HttpError(400, 'SyntaxError', failure.message);
  }
}

/** Throws what a parser would that takes neither texts nor numbers: as if something impossible stood at `first`. */
function strict(text, first) {
  const at = text.indexOf(first);
  const marked = at < 0 ? '' : text.slice(0, at) + '#'.repeat(text.length - at);
  try {
    JSON.parse(marked);
  } catch (failure) {
    throw new SyntaxError(failure.message.replace(/#+/g, (marks) => text.slice(at, at + marks.length)));
  }
}

function parseBodyForm(text, charset) {
  const count = text === '' ? 0 : text.split('&').length;
  if (count > FORM.parameters) {
    throw new HttpError(413, 'PayloadTooLargeError', 'too many parameters');
  }
  try {
    return parseForm(text, { ...FORM, arrays: Math.max(FORM.arrays, count), latin: charset === 'iso-8859-1' });
  } catch (failure) {
    if (failure instanceof RangeError) {
      throw new HttpError(400, 'BadRequestError', 'The input exceeded the depth');
    }
    throw failure;
  }
}

module.exports = { requestOf, decodable, limits };
