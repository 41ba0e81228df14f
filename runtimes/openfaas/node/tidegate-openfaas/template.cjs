// The Node templates of OpenFaaS, without its images.
//
// Those templates put a handler behind Express. What Express makes of a request and of a returned value is kept here in
// plain functions, so no package has to be installed and an instance starts in milliseconds. There are two sets of rules:
// Express 4's up to `node20`, Express 5's in `node22`. They differ in what a missing body is, in how deep a query goes, in
// what a returned number means and in which methods there are.
'use strict';

const { requestOf, decodable, limits } = require('./request.cjs');
const { Reply, isPlain } = require('./reply.cjs');
const { errorPage, notFound } = require('./pages.cjs');

// Express 5's rules hold from this template on.
const MODERN = 22;

// The methods that Express 4's templates route; HEAD comes with GET.
const ROUTED = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

/**
 * Answers requests by calling `exported`, what the handler's module exports, by the rules of the template `language`.
 *
 * A request is `{ method, path, query, pairs, body }`: path and query as sent, fields as pairs in lower case, the body as a
 * Buffer. The promise is of a Reply, and never rejected.
 */
function open(language, exported) {
  const handler = typeof exported === 'function' ? exported : exported?.default;
  if (typeof handler !== 'function') {
    throw new TypeError(`function/handler.js exports ${exported === null ? 'null' : `a value of type ${typeof exported}`}, `
      + 'expected a function: module.exports = async (event, context) => …');
  }
  const modern = Number(/\d+$/.exec(language)?.[0] ?? 0) >= MODERN;
  const settings = { modern, ...limits(process.env) };
  return (request) => new Promise((resolve) => {
    answer(settings, handler, request, resolve);
  });
}

function answer(settings, handler, request, resolve) {
  let event;
  try {
    // Bodies are read before routes are looked at; what is wrong with one is said first.
    event = requestOf(settings, request);
    decodable(request.path);
  } catch (failure) {
    resolve(errorPage(request, failure));
    return;
  }
  if (!settings.modern && !ROUTED.has(request.method)) {
    resolve(notFound(request));
    return;
  }
  const call = new Call(settings, request, event.headers, resolve);
  const context = new Context(call);
  call.context = context;
  let result;
  try {
    result = handler(event, context, (failure, value) => call.tell(failure, value));
  } catch (failure) {
    // Not a rejection: Express 5 makes a page of it. Under Express 4 it is the process's end; here it is the call's alone.
    call.crash(failure);
    return;
  }
  Promise.resolve(result).then((value) => {
    if (!context.told) {
      context.succeed(value);
    }
  }).catch((failure) => call.tell(failure)).catch((failure) => call.crash(failure));
}

/** One call: its first answer is the answer, and later ones are nobody's. */
class Call {
  #settings;
  #request;
  #headers;
  #resolve;
  #reply;

  constructor(settings, request, headers, resolve) {
    this.#settings = settings;
    this.#request = request;
    this.#headers = headers;
    this.#resolve = resolve;
    this.#reply = new Reply(settings.modern);
    this.context = null;
  }

  /** The answer: a failure's text, or a value with the headers that were set. */
  tell(failure, value) {
    if (this.#resolve === null) {
      return;
    }
    const reply = this.#reply;
    if (failure) {
      console.error(failure);
      reply.setStatus(this.context.status());
      reply.send(failure.toString ? failure.toString() : failure, this.#request.method, this.#headers);
    } else {
      reply.setAll(this.context.headers());
      reply.setStatus(this.context.status());
      reply.send(isPlain(value) ? JSON.stringify(value) : value, this.#request.method, this.#headers);
    }
    this.#end(reply);
  }

  /** The answer to what no rule covers. */
  crash(failure) {
    console.error(failure);
    if (this.#resolve !== null) {
      this.#end(errorPage(this.#request, failure ?? new Error('Rejected promise'), this.#reply));
    }
  }

  #end(reply) {
    const resolve = this.#resolve;
    this.#resolve = null;
    resolve(reply);
  }
}

/** What a handler is given beside the event. */
class Context {
  #call;
  #status = 200;
  #headers = {};

  constructor(call) {
    this.#call = call;
    /** Whether `succeed` or `fail` was called. */
    this.told = false;
  }

  /** Sets the status; without one, tells it. */
  status(code) {
    if (!code) {
      return this.#status;
    }
    this.#status = code;
    return this;
  }

  /** Sets the header fields of a successful answer; without any, tells them. */
  headers(fields) {
    if (!fields) {
      return this.#headers;
    }
    this.#headers = fields;
    return this;
  }

  succeed(value) {
    this.told = true;
    this.#call.tell(undefined, value);
  }

  fail(failure) {
    if (String(this.#status) === '200') {
      this.#status = 500;
    }
    this.told = true;
    this.#call.tell(failure);
  }
}

module.exports = { open };
