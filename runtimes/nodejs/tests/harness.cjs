// Hosts as the platform starts them: a control socket, Node's channel, connections handed over it.
//
// Node cannot make the socket of datagrams that the platform gives a host, so a named pipe stands in for it. Messages are
// told apart by their types there, which suffices for lines of text: a test that looks at boundaries belongs to the
// isolation's own.
'use strict';

const assert = require('assert/strict');
const { fork } = require('child_process');
const { randomUUID } = require('crypto');
const fs = require('fs');
const net = require('net');
const os = require('os');
const path = require('path');

const HOST = path.join(__dirname, '..', 'host.cjs');

// What takes longer hangs.
const PATIENCE_MS = 20_000;

function tag() {
  return randomUUID().replaceAll('-', '');
}

/** Files in a folder of their own. */
function bundle(t, files) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidegate-node-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(folder, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
  }
  return folder;
}

/** One host process. */
class Host {
  constructor(t, files, changes = {}) {
    const folder = bundle(t, files);
    this.folder = folder;
    const [entry] = Object.keys(files);
    this.config = {
      function: 'tested', namespace: 'default', revision: 'r1', entry: path.join(folder, entry), cwd: folder, handler: null,
      concurrency: 1, env: { GREETING: 'hello' }, memory: 134217728, timeout_ms: 60000, max_body: 1 << 20, ...changes,
    };
    this.lines = [];
    this.said = [];
    this.raw = '';
    this.errors = '';
    this.wakers = [];
    this.child = fork(HOST, [], { stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'ipc'], env: { ...process.env, NODE_CHANNEL_FD: undefined } });
    this.child.stderr.on('data', (data) => {
      this.errors += data;
    });
    this.child.stdio[3].on('data', (data) => this.hear(data.toString()));
    this.exited = new Promise((resolve) => {
      this.child.on('exit', (code, signal) => {
        this.code = code ?? signal;
        this.wake();
        resolve(this.code);
      });
    });
    this.child.setMaxListeners(0);
    t.after(() => this.child.kill('SIGKILL'));
    this.child.send({ config: this.config });
  }

  hear(text) {
    // A piece may end within a message: all of it is read anew.
    this.raw += text;
    this.said = [];
    this.lines = [];
    text = this.raw;
    // Every message begins with its type; a line of log is told by its stream and tag.
    for (const [message] of text.matchAll(/R|I[0-9a-f-]{32}|F\{.*?\}(?=$|[RIL])|L[oe][0-9a-f-]{32}(?:(?!L[oe][0-9a-f-]{32}|I[0-9a-f]{32})[^\0])*/gs)) {
      this.said.push(message);
      if (message[0] === 'L') {
        this.lines.push({ stream: message[1], tag: message.slice(2, 34), text: message.slice(34) });
      }
    }
    this.wake();
  }

  wake() {
    for (const waker of this.wakers.splice(0)) {
      waker();
    }
  }

  /** Waits until `look` finds something. */
  async until(what, look) {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = look();
      if (found) {
        return found;
      }
      assert.ok(Date.now() < end, `no ${what}: said ${JSON.stringify(this.said)}, errors ${this.errors}`);
      await new Promise((resolve) => {
        this.wakers.push(resolve);
        setTimeout(resolve, 100);
      });
    }
  }

  async ready() {
    await this.until('readiness', () => {
      assert.equal(this.code, undefined, `it ended: ${JSON.stringify(this.said)} ${this.errors}`);
      // A pipe keeps no boundaries: it is the last there is, or the first of what came at once.
      if (this.raw.endsWith('R')) {
        this.raw = `${this.raw.slice(0, -1)}\0`;
        this.hear('');
        return true;
      }
      return this.said.includes('R');
    });
    return this;
  }

  /** What a host that does not become ready says. */
  async refusal() {
    const said = await this.until('refusal', () => this.said.find((each) => each[0] === 'F'));
    assert.notEqual(await this.exited, 0);
    return JSON.parse(said.slice(1));
  }

  line(text) {
    return this.until(`line with ${text}`, () => this.lines.find((each) => each.text.includes(text)));
  }

  /** A connection handed over, and the far end of it. */
  connect() {
    return new Promise((resolve, reject) => {
      const name = path.join(this.folder, `s${tag()}`);
      const server = net.createServer({ pauseOnConnect: true }, (theirs) => {
        this.child.send({ connection: true }, theirs, () => {});
        server.close();
      });
      server.listen(name, () => {
        const ours = net.connect(name, () => resolve(new Wire(ours)));
        ours.on('error', reject);
      });
    });
  }

  /** One request on a fresh connection: the parsed answer. */
  async call(target = '/', { method = 'GET', headers = {}, body = '' } = {}) {
    const wire = await this.connect();
    wire.request(target, { method, headers, body });
    const answer = await wire.answer(method);
    wire.close();
    return answer;
  }
}

/** The server's end of one connection. */
class Wire {
  constructor(socket) {
    this.socket = socket;
    this.data = Buffer.alloc(0);
    this.ended = false;
    this.wakers = [];
    socket.removeAllListeners('error');
    socket.on('error', () => {});
    socket.on('data', (data) => {
      this.data = Buffer.concat([this.data, data]);
      this.wake();
    });
    socket.on('close', () => {
      this.ended = true;
      this.wake();
    });
  }

  wake() {
    for (const waker of this.wakers.splice(0)) {
      waker();
    }
  }

  send(bytes) {
    this.socket.write(bytes);
  }

  request(target, { method = 'GET', headers = {}, body = '' } = {}) {
    const all = { host: 'tested', ...headers };
    if (body !== '') {
      all['content-length'] = Buffer.byteLength(body);
    }
    this.send(`${method} ${target} HTTP/1.1\r\n${Object.entries(all).map(([n, v]) => `${n}: ${v}\r\n`).join('')}\r\n`);
    if (body !== '') {
      this.send(body);
    }
  }

  async until(what, look) {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = look();
      if (found !== undefined && found !== false) {
        return found;
      }
      assert.ok(!this.ended, `the connection ended before ${what}: ${this.data}`);
      assert.ok(Date.now() < end, `no ${what}: ${this.data}`);
      await new Promise((resolve) => {
        this.wakers.push(resolve);
        setTimeout(resolve, 1000);
      });
    }
  }

  /** Reads one answer; the connection may go on. */
  async answer(method = 'GET') {
    const end = await this.until('the end of a head', () => {
      const at = this.data.indexOf('\r\n\r\n');
      return at >= 0 && at + 4;
    });
    const [line, ...fields] = this.data.toString('latin1', 0, end - 4).split('\r\n');
    this.data = this.data.subarray(end);
    const headers = {};
    for (const field of fields) {
      const at = field.indexOf(':');
      const name = field.slice(0, at).toLowerCase();
      headers[name] = name in headers ? [headers[name], field.slice(at + 1).trim()].flat() : field.slice(at + 1).trim();
    }
    const status = Number(line.split(' ')[1]);
    let body = Buffer.alloc(0);
    if (headers['transfer-encoding'] === 'chunked' && method !== 'HEAD') {
      for (;;) {
        const at = await this.until('a chunk size', () => {
          const found = this.data.indexOf('\r\n');
          return found >= 0 && found;
        });
        const size = Number.parseInt(this.data.toString('latin1', 0, at), 16);
        await this.until('a chunk', () => this.data.length >= at + 2 + size + 2);
        body = Buffer.concat([body, this.data.subarray(at + 2, at + 2 + size)]);
        this.data = this.data.subarray(at + 2 + size + 2);
        if (size === 0) {
          break;
        }
      }
    } else if (headers['content-length'] !== undefined && method !== 'HEAD' && status !== 304) {
      const size = Number(headers['content-length']);
      await this.until('a body', () => this.data.length >= size);
      body = this.data.subarray(0, size);
      this.data = this.data.subarray(size);
    }
    return { status, headers, body, text: body.toString(), json: () => JSON.parse(body.toString()) };
  }

  close() {
    this.socket.destroy();
  }
}

/** A host that is ready. */
function host(t, files, changes) {
  return new Host(t, typeof files === 'string' ? { 'app.cjs': files } : files, changes).ready();
}

/** What a host says that cannot load its function. */
function refusal(t, files, changes) {
  return new Host(t, typeof files === 'string' ? { 'app.cjs': files } : files, changes).refusal();
}

module.exports = { host, refusal, bundle, tag, Host, Wire, HOST };
