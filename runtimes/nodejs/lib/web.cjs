// Request and Response of the web, cheaply.
//
// Node's own are thorough and slow: each is a dozen objects, with a stream for the shortest body. Most handlers ask a
// request for its address and one header, and answer a string. So a request is a light object that becomes a real Request
// when something is asked of it that only that can do, and `Response` is a light class that becomes a real one in the same
// way. Both pass `instanceof`: the light ones as the global classes, the real ones (what `fetch` answers) as well.
'use strict';

const { checkStatus } = require('./http1.cjs');
const { parseJson } = require('./event.cjs');

const native = {};

// Node loads its implementation when one of these names is first looked at: a few milliseconds that a plain handler never
// pays. The getters are kept instead of what they give.
for (const name of ['Request', 'Response', 'Headers', 'ReadableStream']) {
  const found = Object.getOwnPropertyDescriptor(globalThis, name);
  Object.defineProperty(native, name, found.get ? { get: found.get.bind(globalThis) } : { value: found.value });
}

const NULL_BODY = new Set([204, 205, 304]);

/** A response that holds what it was made of. */
class Response {
  #body;
  #init;
  #headers = null;
  #real = null;
  #status;
  /** The content type that a string has by itself. */
  #type = 'text/plain;charset=UTF-8';

  constructor(body = null, init = undefined) {
    if (init !== undefined && init !== null && typeof init !== 'object' && typeof init !== 'function') {
      throw new TypeError('Response: the second argument is an object with status, statusText and headers');
    }
    const status = init?.status ?? 200;
    this.#status = Math.trunc(Number(status));
    if (!(this.#status >= 200 && this.#status <= 599)) {
      throw new RangeError(`Response: status ${String(status)} is not a number from 200 to 599`);
    }
    if (body !== null && body !== undefined && NULL_BODY.has(this.#status)) {
      throw new TypeError(`Response: status ${this.#status} has no body`);
    }
    this.#init = init ?? undefined;
    this.#body = body ?? null;
    // What another could change afterwards is taken now.
    if (isPlain(this.#body) || this.#body === null) {
      if (this.#init?.headers !== undefined) {
        this.#headers = new native.Headers(this.#init.headers);
      }
    } else {
      this.#become();
    }
  }

  static json(data, init) {
    const text = JSON.stringify(data);
    if (text === undefined) {
      throw new TypeError('Response.json: the value cannot be written as JSON');
    }
    const response = new Response(text, init);
    response.#type = 'application/json';
    return response;
  }

  static redirect(url, status) {
    return native.Response.redirect(url, status);
  }

  static error() {
    return native.Response.error();
  }

  static [Symbol.hasInstance](value) {
    return typeof value === 'object' && value !== null
      && (Object.prototype.isPrototypeOf.call(Response.prototype, value) || value instanceof native.Response);
  }

  #become() {
    if (this.#real === null) {
      const init = { status: this.#status, statusText: this.#init?.statusText, headers: this.#headers ?? this.#init?.headers };
      this.#real = new native.Response(this.#body, init);
      this.#headers = this.#real.headers;
      this.#body = null;
    }
    return this.#real;
  }

  get headers() {
    this.#headers ??= new native.Headers();
    if (typeof this.#body === 'string' && !this.#headers.has('content-type')) {
      this.#headers.set('content-type', this.#type);
    }
    return this.#headers;
  }

  get status() {
    return this.#status;
  }

  get ok() {
    return this.#status < 300;
  }

  get statusText() {
    return String(this.#init?.statusText ?? '');
  }

  get type() {
    return 'default';
  }

  get url() {
    return '';
  }

  get redirected() {
    return false;
  }

  get body() {
    return this.#body === null && this.#real === null ? null : this.#becomeWithType().body;
  }

  get bodyUsed() {
    return this.#real?.bodyUsed ?? false;
  }

  #becomeWithType() {
    if (this.#real === null) {
      void this.headers;
    }
    return this.#become();
  }

  text() {
    return this.#becomeWithType().text();
  }

  json() {
    return this.#becomeWithType().json();
  }

  arrayBuffer() {
    return this.#becomeWithType().arrayBuffer();
  }

  bytes() {
    return this.#becomeWithType().arrayBuffer().then((buffer) => new Uint8Array(buffer));
  }

  blob() {
    return this.#becomeWithType().blob();
  }

  formData() {
    return this.#becomeWithType().formData();
  }

  clone() {
    return this.#becomeWithType().clone();
  }

  get [Symbol.toStringTag]() {
    return 'Response';
  }

  /** For `read`: the answer as it stands, without making anything real that is not. */
  static take(response, Answer) {
    if (response.#real !== null) {
      return readReal(response.#real, Answer);
    }
    const body = response.#body;
    const fields = [];
    if (response.#headers !== null) {
      flatten(fields, response.#headers);
    }
    if (typeof body === 'string' && (response.#headers === null || !response.#headers.has('content-type'))) {
      fields.push('content-type', response.#type);
    }
    const bytes = body === null ? '' : typeof body === 'string' ? body : ArrayBuffer.isView(body)
      ? new Uint8Array(body.buffer, body.byteOffset, body.byteLength) : new Uint8Array(body);
    return new Answer(response.#status, fields, bytes);
  }

  static isLight(value) {
    return typeof value === 'object' && value !== null && #body in value;
  }
}

function isPlain(body) {
  return typeof body === 'string' || body instanceof ArrayBuffer || ArrayBuffer.isView(body);
}

function flatten(fields, headers) {
  for (const [name, value] of headers) {
    fields.push(name, value);
  }
}

function readReal(response, Answer) {
  if (response.bodyUsed) {
    throw new TypeError('the body of the Response has been read already, so that nothing is left to answer with');
  }
  const fields = [];
  flatten(fields, response.headers);
  return new Answer(checkStatus(response.status), fields, response.body ?? '');
}

/** Whether this is a Response of either kind. Loads nothing: where Node's has not been loaded, none of its kind exist. */
function isResponse(value) {
  return Response.isLight(value) || (value.constructor?.name === 'Response' && value instanceof native.Response);
}

/** Reads a Response as an Answer. */
function read(response, Answer) {
  return Response.isLight(response) ? Response.take(response, Answer) : readReal(response, Answer);
}

/** A request as `fetch` handlers see it. Made by the host only. */
class Request {
  #x;
  #real = null;
  #headers = null;
  #url = null;
  #used = false;

  constructor(x) {
    this.#x = x;
  }

  get method() {
    return this.#x.head.method;
  }

  get url() {
    if (this.#url === null) {
      const head = this.#x.head;
      const scheme = head.get('x-forwarded-proto') === 'https' ? 'https' : 'http';
      this.#url = `${scheme}://${head.get('host') ?? 'localhost'}${head.target}`;
    }
    return this.#url;
  }

  get headers() {
    if (this.#headers === null) {
      if (this.#real !== null) {
        return this.#real.headers;
      }
      const headers = new native.Headers();
      const fields = this.#x.head.fields;
      for (let at = 0; at < fields.length; at += 2) {
        headers.append(fields[at], fields[at + 1]);
      }
      this.#headers = headers;
    }
    return this.#headers;
  }

  get signal() {
    return this.#x.signal;
  }

  get bodyUsed() {
    return this.#real === null ? this.#used : this.#real.bodyUsed;
  }

  #become() {
    if (this.#real === null) {
      if (this.#used) {
        throw new TypeError('the body has been read already');
      }
      const bodiless = this.method === 'GET' || this.method === 'HEAD';
      // TRACE and CONNECT are no methods of the web's requests; nothing but the name is lost.
      const method = /^(?:TRACE|TRACK|CONNECT)$/i.test(this.method) ? 'POST' : this.method;
      this.#real = new native.Request(this.url, {
        method,
        headers: this.headers,
        body: bodiless ? undefined : stream(this.#x.body),
        duplex: 'half',
        signal: this.#x.signal,
      });
    }
    return this.#real;
  }

  async #bytes() {
    if (this.#used) {
      throw new TypeError('Body is unusable: it has been read already');
    }
    this.#used = true;
    return this.#x.body.whole() ?? this.#x.body.readAll();
  }

  async text() {
    return this.#real === null ? new TextDecoder().decode(await this.#bytes()) : this.#real.text();
  }

  async json() {
    return this.#real === null ? parseJson(new TextDecoder().decode(await this.#bytes())) : this.#real.json();
  }

  async arrayBuffer() {
    if (this.#real !== null) {
      return this.#real.arrayBuffer();
    }
    const bytes = await this.#bytes();
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  }

  async bytes() {
    return new Uint8Array(await this.arrayBuffer());
  }

  get body() {
    return this.#become().body;
  }

  blob() {
    return this.#become().blob();
  }

  formData() {
    return this.#become().formData();
  }

  clone() {
    return this.#become().clone();
  }

  static isLight(value) {
    return typeof value === 'object' && value !== null && #x in value;
  }

  static real(value) {
    return value.#become();
  }

  get [Symbol.toStringTag]() {
    return 'Request';
  }
}

for (const name of ['cache', 'credentials', 'destination', 'integrity', 'mode', 'redirect', 'referrer', 'referrerPolicy',
  'keepalive', 'duplex']) {
  Object.defineProperty(Request.prototype, name, {
    configurable: true,
    get() {
      return Request.real(this)[name];
    },
  });
}

/** A body as a stream of bytes that is read as it arrives. */
function stream(body) {
  return new native.ReadableStream({
    type: 'bytes',
    async pull(controller) {
      const part = await body.read();
      if (part === null) {
        controller.close();
        controller.byobRequest?.respond(0);
      } else {
        // A copy: the part is a window on a buffer that other requests share, and a stream may give its buffers away.
        controller.enqueue(new Uint8Array(part));
      }
    },
    cancel() {
      body.discard();
    },
  });
}

/**
 * The global Request: Node's own, except that a light one is accepted where a request is, and is an instance of it. Made at
 * first use, since it needs Node's.
 */
function globalRequest() {
  return new Proxy(native.Request, {
    construct(target, [input, init], newTarget) {
      return Reflect.construct(target, [Request.isLight(input) ? Request.real(input) : input, init], newTarget);
    },
    get(target, name, receiver) {
      if (name === Symbol.hasInstance) {
        return (value) => Request.isLight(value) || value instanceof target;
      }
      return Reflect.get(target, name, receiver === undefined ? target : receiver);
    },
  });
}

/** Puts the light classes in the place of the global ones. */
function install() {
  Object.defineProperty(globalThis, 'Response', { configurable: true, writable: true, enumerable: false, value: Response });
  Object.defineProperty(globalThis, 'Request', {
    configurable: true,
    enumerable: false,
    get() {
      const made = globalRequest();
      Object.defineProperty(globalThis, 'Request', { configurable: true, writable: true, enumerable: false, value: made });
      return made;
    },
    set(value) {
      Object.defineProperty(globalThis, 'Request', { configurable: true, writable: true, enumerable: false, value });
    },
  });
  const real = globalThis.fetch;
  // A light request may be passed on as it is: `fetch(request)`.
  globalThis.fetch = function fetch(input, init) {
    return real(Request.isLight(input) ? Request.real(input) : input, init);
  };
}

/** Loads what Node loads at the first use of the web's classes. For processes that wait for their function. */
function warm() {
  void native.Headers;
  void native.Request;
  void native.Response;
}

module.exports = { Request, Response, isResponse, read, install, warm };
