'use strict';

const assert = require('assert/strict');
const { spawn } = require('child_process');
const http = require('http');
const net = require('net');
const path = require('path');
const { test } = require('node:test');
const { host, refusal, bundle, HOST } = require('./harness.cjs');

test('each shape of module is found', async (t) => {
  for (const [what, files, handler, wanted] of [
    ['module.exports = function', { 'app.cjs': 'module.exports = async () => new Response("one")' }, null, 'one'],
    ['module.exports = (event)', { 'app.cjs': 'module.exports = (event) => event.method' }, null, 'GET'],
    ['exports.handle', { 'app.cjs': 'exports.handle = (event) => event.path' }, null, '/x'],
    ['exports.fetch', { 'app.cjs': 'exports.fetch = (request) => request.url' }, null, 'http://tested/x'],
    ['a transpiled default', { 'app.cjs': 'exports.__esModule = true; exports.default = { fetch: () => new Response("two") }' }, null, 'two'],
    ['export function handle', { 'app.mjs': 'export function handle(event) { return event.method }' }, null, 'GET'],
    ['type: module', { 'app.js': 'export const handler = () => "three"', 'package.json': '{"type":"module"}' }, null, 'three'],
    ['the syntax alone', { 'app.js': 'export const handler = () => "four"' }, null, 'four'],
    ['by name', { 'app.cjs': 'exports.a = () => "a"; exports.handler = () => "b"' }, 'a', 'a'],
    ['by a path of names', { 'app.cjs': 'exports.a = { b: { word: "deep", c() { return this.word } } }' }, 'a.b.c', 'deep'],
    ['in another module', { 'app.cjs': '', 'jobs/run.cjs': 'exports.go = () => "went"' }, 'jobs/run:go', 'went'],
    ['top-level await', { 'app.mjs': 'const word = await Promise.resolve("later"); export default () => new Response(word)' }, null, 'later'],
    ['a named listener', { 'app.cjs': 'module.exports = (req, res) => res.end("node " + req.url)' }, null, 'node /x'],
  ]) {
    const h = await host(t, files, { handler });
    assert.equal((await h.call('/x')).text, wanted, what);
    h.child.kill('SIGKILL');
  }
});

test('apps that take (req, res) are served by Node, and their lines attributed', async (t) => {
  const app = `
    function app(req, res, next) {
      console.log('line');
      if (req.url === '/throw') throw new Error('thrown');
      if (req.url === '/late') return setTimeout(() => { throw new Error('late') }, 1);
      res.setHeader('x-app', 'yes');
      res.end(JSON.stringify(Object.keys(req.headers).filter((name) => name.startsWith('x-tidegate'))));
    }
    app.use = () => {}; app.handle = app;
    module.exports = app;`;
  const h = await host(t, app);
  const id = 'ab'.repeat(16);
  const answer = await h.call('/', { headers: { 'x-request-id': id, 'x-tidegate-deadline-ms': '5' } });
  assert.deepEqual([answer.text, answer.headers['x-app']], ['[]', 'yes']);
  assert.equal((await h.line('line')).tag, id);
  for (const [path_, text] of [['/throw', 'thrown'], ['/late', 'late']]) {
    const failed = await h.call(path_, { headers: { 'x-request-id': id } });
    assert.deepEqual([failed.status, failed.json(), failed.headers['x-tidegate-outcome']],
      [500, { error: 'function failed', requestId: id }, 'function']);
    await h.line(`Error: ${text}`);
  }
  h.child.send({ drain: true });
  assert.equal(await h.exited, 0);
});

test('objects of other frameworks are taken by their methods', async (t) => {
  const koa = await host(t, 'module.exports = { callback: () => (req, res) => res.end("koa") };');
  assert.equal((await koa.call()).text, 'koa');
  const fastify = await host(t, 'exports.app = { ready: async () => {}, routing: (req, res) => res.end("fastify") };');
  assert.equal((await fastify.call()).text, 'fastify');
});

test('what cannot be loaded says where', async (t) => {
  for (const [files, wanted] of [
    [{ 'app.cjs': 'const a = 1;\nlet a = 2;\n' }, /app\.cjs:2: SyntaxError: Identifier 'a' has already been declared/],
    [{ 'app.mjs': '\n\nexport default ) ;\n' }, /app\.mjs:3: SyntaxError: Unexpected token '\)'/],
    [{ 'app.cjs': '\nnull.x;\n' }, /app\.cjs:2: TypeError: Cannot read properties of null/],
    [{ 'app.cjs': 'require("@a/b/c")' }, /Cannot find module '@a\/b\/c'; add "@a\/b" to the dependencies/],
    [{ 'app.cjs': 'exports.runn = () => 1' }, /exports nothing that can be called.*it has `runn`/],
    [{ 'app.cjs': 'exports.handler = 7' }, /exports nothing that can be called/],
    [{ 'app.cjs': 'exports.handler = class A {}' }, /is a class, expected a function/],
    [{ 'app.cjs': 'exports.app = (a) => 1' }, /is a function without \(req, res\)/],
    [{ 'app.txt': '' }, /is not a JavaScript file/],
    [{ 'app.js': '', 'package.json': '{' }, /package\.json is not valid JSON/],
    [{ 'app.cjs': 'process.exit(3)' }, /^process\.exit\(3\) was called while it was loaded$/],
    [{ 'app.cjs': 'throw "text"' }, /^text$/],
  ]) {
    const said = await refusal(t, files);
    assert.equal(said.step, 'load');
    assert.match(said.error, wanted);
  }
  const { error } = await refusal(t, { 'app.cjs': 'exports.a = () => 1' }, { handler: 'b' });
  assert.match(error, /has no export `b`; it has `a`, which the handler setting may name/);
});

test('TypeScript is read where Node does, and refused with what would do where not', async (t) => {
  const files = { 'app.ts': 'type A = { a: number }; export default async (): Promise<Response> => new Response("typed" satisfies string);' };
  if (process.features.typescript) {
    const h = await host(t, files);
    assert.equal((await h.call()).text, 'typed');
  } else {
    assert.match((await refusal(t, files)).error, /app\.ts is TypeScript, which Node [0-9.]+ does not read; install Node 22\.18/);
  }
});

test('by itself it listens on $PORT, and ends with the last word on standard error', async (t) => {
  const folder = bundle(t, { 'ok.cjs': 'exports.handler = (event) => "on " + event.path', 'bad.cjs': 'x y' });
  const run = (file, env) => {
    const child = spawn(process.execPath, [HOST, path.join(folder, file)], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    t.after(() => child.kill('SIGKILL'));
    return child;
  };
  const free = await new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
  const child = run('ok.cjs', { PORT: String(free) });
  const text = await new Promise((resolve, reject) => {
    const end = Date.now() + 20_000;
    const ask = () => http.get({ port: free, host: '127.0.0.1', path: '/x', agent: false }, (res) => {
      let got = '';
      res.on('data', (part) => {
        got += part;
      }).on('end', () => resolve(got));
    }).on('error', (error) => (Date.now() < end ? setTimeout(ask, 20) : reject(error)));
    ask();
  });
  assert.equal(text, 'on /x');
  child.kill('SIGTERM');
  assert.equal(await new Promise((resolve) => child.on('exit', resolve)), 0);
  const bad = run('bad.cjs', { PORT: '1' });
  let errors = '';
  bad.stderr.on('data', (part) => {
    errors += part;
  });
  assert.equal(await new Promise((resolve) => bad.on('close', resolve)), 1);
  assert.match(errors.trim().split('\n').pop(), /bad\.cjs:1: SyntaxError: /);
});
