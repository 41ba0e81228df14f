// Apps that want Node's own request and response: plain listeners, express, koa, fastify.
//
// They are served by Node's own HTTP server, since that is what makes those objects; the connections come from the same
// place as for handlers.
'use strict';

const http = require('http');
const logs = require('./logs.cjs');
const { errorOf, trace } = require('./answers.cjs');
const { HEAD_MAX, NO_TAG } = require('./http1.cjs');

/** Serves a `(req, res)` listener; has the same methods as `Server`. */
class AppServer {
  constructor(control, config) {
    this.control = control;
    this.config = config;
    this.running = new Map();
    this.kept = new Set();
    this.sockets = new Set();
    this.early = [];
    this.draining = false;
    this.call = null;
    this.onDrained = null;
    // The server decides how long a connection is kept, and holds its callers to its own limits.
    this.http = http.createServer({
      keepAliveTimeout: 0, headersTimeout: 0, requestTimeout: 0, maxHeaderSize: HEAD_MAX,
    }, (req, res) => this.begin(req, res));
    this.http.on('clientError', (_error, socket) => socket.destroy());
  }

  accept(socket) {
    this.sockets.add(socket);
    socket.on('close', () => this.sockets.delete(socket));
    this.http.emit('connection', socket);
  }

  begin(req, res) {
    const id = req.headers['x-request-id'] ?? null;
    const tag = /^[0-9a-f]{32}$/i.test((id ?? '').replaceAll('-', '')) ? id.replaceAll('-', '').toLowerCase() : NO_TAG;
    if (this.early.includes(tag)) {
      req.socket.destroy();
      return;
    }
    forget(req);
    const scope = new logs.Scope(tag);
    const x = { req, res, scope, cancelled: false, fail: (failure) => this.fail(x, failure) };
    scope.x = x;
    this.running.set(x, tag);
    // The lines go before the end of the answer does.
    const end = res.end;
    res.end = function ended(...words) {
      logs.flush(scope);
      return end.apply(this, words);
    };
    res.on('close', () => {
      this.running.delete(x);
      logs.flush(scope);
      if (x.cancelled) {
        this.control?.idle(tag);
      }
      this.idle();
    });
    logs.current.run(scope, () => {
      try {
        const result = this.call(req, res);
        if (typeof result?.catch === 'function') {
          result.catch((failure) => this.fail(x, failure));
        }
      } catch (failure) {
        this.fail(x, failure);
      }
    });
  }

  fail(x, failure) {
    if (x.cancelled || x.res.destroyed) {
      return;
    }
    logs.current.run(x.scope, () => process.stderr.write(`${trace(failure)}\n`));
    logs.flush(x.scope);
    if (x.res.headersSent) {
      x.res.destroy();
      return;
    }
    const [status, message, outcome] = errorOf(failure);
    for (const name of x.res.getHeaderNames()) {
      x.res.removeHeader(name);
    }
    x.res.writeHead(status, { 'content-type': 'application/json', 'x-tidegate-outcome': outcome });
    x.res.end(JSON.stringify({ error: message, requestId: x.req.headers['x-request-id'] ?? null }));
  }

  cancel(tag) {
    for (const [x, its] of this.running) {
      if (its === tag) {
        x.cancelled = true;
        x.req.socket.destroy();
        return;
      }
    }
    this.early.push(tag);
    if (this.early.length > 64) {
      this.early.shift();
    }
    this.control?.idle(tag);
  }

  drain(orphaned) {
    this.draining = true;
    if (orphaned) {
      setTimeout(() => this.onDrained?.(), 1000);
    }
    setImmediate(() => this.idle());
  }

  idle() {
    if (!this.draining || this.running.size > 0) {
      return;
    }
    let open = this.sockets.size;
    if (open === 0) {
      this.onDrained?.();
      return;
    }
    for (const socket of this.sockets) {
      socket.end(() => {
        open -= 1;
        if (open === 0) {
          this.onDrained?.();
        }
      });
    }
  }
}

/** What the platform tells the host is not the app's to read. */
function forget(req) {
  for (let at = req.rawHeaders.length - 2; at >= 0; at -= 2) {
    const name = req.rawHeaders[at].toLowerCase();
    if (name.startsWith('x-tidegate-')) {
      req.rawHeaders.splice(at, 2);
      delete req.headers[name];
    }
  }
}

module.exports = { AppServer };
