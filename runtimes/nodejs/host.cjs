// The Node language host: runs one function inside one instance.
//
// Two ways in. Under the platform, descriptor 3 takes what the host says and descriptor 4 is Node's channel between
// processes, over which the configuration and connected descriptors come; the process may have waited long before the
// configuration, without anybody's code. By itself, `PORT=8080 node host.cjs app.mjs [handler]` listens on that port and
// leaves its output alone.
'use strict';

const { Server } = require('./lib/server.cjs');
const { Control } = require('./lib/control.cjs');
const { load, explain } = require('./lib/load.cjs');
const { trace, shape } = require('./lib/answers.cjs');
const { Event, Context } = require('./lib/event.cjs');
const logs = require('./lib/logs.cjs');
const web = require('./lib/web.cjs');

// The function could not be loaded.
const EXIT_LOAD = 1;

// For a server that does not say: what fits into memory several times over. In bytes.
const BODY_MAX = 64 * 1024 * 1024;

// Where the sandbox mounts a function.
const FUNCTION_DIR = '/function';

/** Loads the function of `config` and makes the server that answers with it. */
async function prepare(control, config) {
  config.concurrency ??= 1;
  config.max_body ??= BODY_MAX;
  web.install();
  const { kind, call } = await load(config);
  if (kind === 'node') {
    const { AppServer } = require('./lib/apps.cjs');
    const server = new AppServer(control, config);
    server.call = call;
    return server;
  }
  const server = new Server(control, config);
  server.call = kind === 'fetch' ? forFetch(call, config) : forEvents(call, config);
  return server;
}

function forEvents(call, config) {
  const run = async (x, body) => shape(await call(new Event(x.head, body), new Context(config, x)));
  return (x) => {
    // Read before the call, because `event.body` cannot wait.
    const body = x.body.whole();
    if (body === null) {
      return x.body.readAll().then((late) => run(x, late));
    }
    const result = call(new Event(x.head, body), new Context(config, x));
    return typeof result?.then === 'function' ? result.then(shape) : shape(result);
  };
}

function forFetch(call, config) {
  // A copy: what a handler writes into it is not the process's environment.
  const env = { ...process.env };
  return (x) => {
    const result = call(new web.Request(x), env, new Context(config, x));
    return typeof result?.then === 'function' ? result.then(shape) : shape(result);
  };
}

/** What nobody caught fails the call that it belongs to, and never the others. */
function guard(server) {
  const failed = (failure) => {
    const x = logs.current.getStore()?.x ?? null;
    if (x !== null) {
      x.fail(failure);
      return;
    }
    process.stderr.write(`${trace(failure)}\n`);
    logs.flush(logs.OUTSIDE);
  };
  process.on('unhandledRejection', failed);
  process.on('uncaughtException', failed);
  process.on('exit', () => {
    for (const x of server.running.keys()) {
      if (x !== null) {
        logs.flush(x.scope);
      }
    }
    logs.flush(logs.OUTSIDE);
  });
}

/** Waits on the control channel to become somebody's. */
function wait() {
  const control = new Control();
  let server = null;
  let configured = false;
  // What came while the function was loaded.
  const early = [];
  const orders = {
    config(config) {
      configured = true;
      become(control, config).then((made) => {
        server = made;
        server.onDrained = () => process.exit(0);
        for (const order of early.splice(0)) {
          order();
        }
        control.ready();
      }, (failure) => {
        const { error, trace: text } = explain(failure, config);
        control.failed('load', error, text);
        process.exit(EXIT_LOAD);
      });
    },
    connection(socket) {
      server === null ? early.push(() => orders.connection(socket)) : server.accept(socket);
    },
    cancel(tag) {
      server === null ? control.idle(tag) : server.cancel(tag);
    },
    drain() {
      server === null ? process.exit(0) : server.drain(false);
    },
    gone() {
      server === null ? process.exit(0) : server.drain(true);
    },
  };
  control.listen(orders);
  // Where the configuration is there already, it goes first.
  setImmediate(() => setImmediate(() => {
    if (!configured) {
      warm();
      control.waiting();
    }
  }));
}

/** Does ahead of time what any function would pay for. */
function warm() {
  web.warm();
  require('http');
  require('stream');
  require('url');
}

async function become(control, config) {
  for (const name of Object.keys(process.env)) {
    delete process.env[name];
  }
  Object.assign(process.env, config.env ?? {});
  logs.install(control);
  process.chdir(config.cwd ?? FUNCTION_DIR);
  let loaded = false;
  const left = (code) => {
    if (!loaded) {
      control.failed('load', `process.exit(${code}) was called while it was loaded`);
    }
  };
  process.once('exit', left);
  try {
    const server = await prepare(control, config);
    guard(server);
    return server;
  } finally {
    loaded = true;
    logs.flush(logs.OUTSIDE);
  }
}

/** Listens on `$PORT`. */
async function listen() {
  const path = require('path');
  const [entry, handler] = process.argv.slice(2);
  const config = { entry: path.resolve(entry), handler: handler || null };
  let server;
  try {
    server = await prepare(null, config);
  } catch (failure) {
    const { error, trace: text } = explain(failure, config);
    process.stderr.write(`${text === '' ? '' : `${text}\n`}${error}\n`);
    process.exitCode = EXIT_LOAD;
    return;
  }
  guard(server);
  const listener = require('net').createServer({ noDelay: true }, (socket) => server.accept(socket));
  server.onDrained = () => process.exit(0);
  process.on('SIGTERM', () => {
    listener.close();
    server.drain(false);
  });
  listener.listen(Number(process.env.PORT), '127.0.0.1');
}

if (process.env.NODE_CHANNEL_FD !== undefined || process.channel) {
  wait();
} else {
  listen();
}
