'use strict';

const assert = require('assert/strict');
const { test } = require('node:test');
const { host, tag } = require('./harness.cjs');

test('a handler sees the event and the context', async (t) => {
  const h = await host(t, `exports.handler = (event, context) => ({
    method: event.method, path: event.path, rawPath: event.rawPath, queryString: event.queryString, query: event.query,
    list: event.queryList('a'), type: event.contentType, text: event.text, json: event.json(), size: event.body.length,
    x: [event.headers.get('X-Thing'), event.headers['x-thing'], event.headers.getAll('x-thing'), event.headers.has('nope')],
    ours: event.headers.keys().filter((name) => name.startsWith('x-tidegate')),
    id: context.requestId, name: context.functionName, ns: context.namespace, rev: context.revision,
    memory: context.memoryLimitBytes, left: context.remainingMs() <= 1500 && context.remainingMs() > 0,
    prefix: context.pathPrefix, env: process.env.GREETING, argv: process.argv.length, send: typeof process.send,
  });`);
  const id = tag();
  const answer = await h.call('/a%20b?a=1&a=2&b=%C3%A9', {
    method: 'POST', body: '{"x": "\u00e9"}',
    headers: { 'Content-Type': 'Application/JSON; charset=utf-8', 'X-Thing': ' one ', 'x-request-id': id,
      'x-tidegate-deadline-ms': '1500', 'x-tidegate-path-prefix': '/fn/tested/' },
  });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers['content-type'], 'application/json');
  assert.deepEqual(answer.json(), {
    method: 'POST', path: '/a b', rawPath: '/a%20b', queryString: 'a=1&a=2&b=%C3%A9', query: { a: '2', b: '\u00e9' },
    list: ['1', '2'], type: 'application/json', text: '{"x": "\u00e9"}', json: { x: '\u00e9' }, size: 11,
    x: ['one', 'one', ['one'], false], ours: [], id, name: 'tested', ns: 'default', rev: 'r1', memory: 134217728, left: true,
    prefix: '/fn/tested', env: 'hello', argv: 2, send: 'undefined',
  });
});

const SHAPES = [
  ['undefined', 200, undefined, ''],
  ['"text \u00e9"', 200, 'text/plain; charset=utf-8', 'text \u00e9'],
  ['Buffer.from("bytes")', 200, 'application/octet-stream', 'bytes'],
  ['new TextEncoder().encode("view").buffer', 200, 'application/octet-stream', 'view'],
  ['({ a: 1 })', 200, 'application/json', '{"a":1}'],
  ['[1, 2]', 200, 'application/json', '[1,2]'],
  ['7', 200, 'application/json', '7'],
  ['true', 200, 'application/json', 'true'],
  ['({ statusCode: 201, headers: { "x-a": "b", "Content-Type": "text/x" }, body: "made" })', 201, 'text/x', 'made'],
  ['({ statusCode: 200, body: "aGk=", isBase64Encoded: true })', 200, 'application/octet-stream', 'hi'],
  ['({ statusCode: 404, body: { no: 1 } })', 404, 'application/json', '{"no":1}'],
  ['new Response("web", { status: 202 })', 202, 'text/plain;charset=UTF-8', 'web'],
  ['Response.json({ a: 1 })', 200, 'application/json', '{"a":1}'],
  ['(function* () { yield "a"; yield "b"; })()', 200, 'text/plain; charset=utf-8', 'ab'],
  ['(async function* () { yield Buffer.from("a"); yield "b"; })()', 200, 'application/octet-stream', 'ab'],
  ['require("stream").Readable.from(["x", "y"])', 200, 'text/plain; charset=utf-8', 'xy'],
];

test('each result becomes an answer', async (t) => {
  const h = await host(t, `const shapes = [${SHAPES.map(([code]) => `() => ${code}`).join(',\n')}];
    exports.handler = async (event) => shapes[Number(event.path.slice(1))]();`);
  for (const [at, [code, status, type, text]] of SHAPES.entries()) {
    const answer = await h.call(`/${at}`);
    assert.deepEqual([answer.status, answer.headers['content-type'], answer.text], [status, type, text], code);
    assert.equal(answer.headers['x-tidegate-outcome'], undefined, code);
  }
});

test('cookies and repeated fields stay apart', async (t) => {
  const h = await host(t, `exports.handler = () => ({ statusCode: 200, cookies: ['a=1', 'b=2'], multiValueHeaders: { 'x-m': ['1', '2'] } });`);
  const { headers } = await h.call();
  assert.deepEqual([headers['set-cookie'], headers['x-m']], [['a=1', 'b=2'], ['1', '2']]);
});

test('what fails is a 500 without the reason, and the trace is in the log', async (t) => {
  const h = await host(t, `
    const ways = {
      '/throw': () => { throw new Error('secret reason'); },
      '/reject': async () => { throw new TypeError('secret reason'); },
      '/symbol': () => Symbol('x'), '/nan': () => NaN, '/big': () => ({ n: 1n }),
      '/header': () => ({ statusCode: 200, headers: { 'x-a': 'b\\r\\nx-forged: 1' } }),
      '/status': () => ({ statusCode: 99 }),
      '/late': () => new Promise(() => setTimeout(() => { throw new Error('secret reason'); }, 1)),
      '/unhandled': () => new Promise(() => { Promise.reject(new Error('secret reason')); }),
      '/first': async function* () { throw new Error('secret reason'); },
    };
    exports.handler = (event) => event.path === '/first' ? ways['/first']() : ways[event.path]();`);
  for (const path of ['/throw', '/reject', '/symbol', '/nan', '/big', '/header', '/status', '/late', '/unhandled', '/first']) {
    const id = tag();
    const before = h.lines.length;
    const answer = await h.call(path, { headers: { 'x-request-id': id } });
    assert.deepEqual([answer.status, answer.json(), answer.headers['x-tidegate-outcome']],
      [500, { error: 'function failed', requestId: id }, 'function'], path);
    const line = await h.until('a trace', () => h.lines.slice(before).find((each) => each.tag === id));
    assert.equal(line.stream, 'e', path);
    assert.ok(h.lines.slice(before).some((each) => /Error|TypeError|RangeError/.test(each.text)), path);
    assert.ok(!h.lines.slice(before).some((each) => each.text.includes('lib/server.cjs')), path);
  }
});

test('a body that is not JSON is the caller\u2019s fault', async (t) => {
  const h = await host(t, 'exports.handler = (event) => event.json();');
  const answer = await h.call('/', { method: 'POST', body: '{"a": }' });
  assert.equal(answer.status, 400);
  assert.match(answer.json().error, /^the body is not valid JSON: /);
  assert.equal(answer.headers['x-tidegate-outcome'], 'application');
  const empty = await h.call('/');
  assert.equal(empty.json().error, 'the body is not valid JSON: it is empty');
  assert.deepEqual(h.lines, []);
});

test('a body over the limit is refused, by length and by count', async (t) => {
  const h = await host(t, 'exports.handler = (event) => event.body.length;', { max_body: 1000 });
  const answer = await h.call('/', { method: 'POST', body: 'x'.repeat(1001) });
  assert.deepEqual([answer.status, answer.json().error], [413, 'the body is over the limit of 1000 bytes']);
  const wire = await h.connect();
  wire.send('POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n');
  for (let at = 0; at < 11; at += 1) {
    wire.send(`64\r\n${'y'.repeat(100)}\r\n`);
  }
  assert.equal((await wire.answer()).status, 413);
  wire.close();
  assert.equal((await h.call('/', { method: 'POST', body: 'x'.repeat(1000) })).text, '1000');
});

test('lines carry the id of the request that wrote them, among many at once', async (t) => {
  const h = await host(t, `
    console.log('from the module');
    exports.handler = async (event) => {
      const n = event.query.n;
      console.log('begins', n);
      await new Promise((resolve) => setTimeout(resolve, 5));
      process.stdout.write('half of ' + n);
      await new Promise((resolve) => setTimeout(resolve, 5));
      console.error('ends', n);
      return n;
    };`, { concurrency: 20 });
  const module = await h.line('from the module');
  assert.equal(module.tag, '-'.repeat(32));
  const ids = await Promise.all(Array.from({ length: 20 }, async (_, n) => {
    const id = tag();
    await h.call(`/?n=${n}.`, { headers: { 'x-request-id': id } });
    return id;
  }));
  for (const [n, id] of ids.entries()) {
    const lines = await h.until('three lines', () => {
      const found = h.lines.filter((line) => line.tag === id);
      return found.length === 3 && found;
    });
    assert.deepEqual(lines.map((line) => [line.stream, line.text]).sort(),
      [['e', `ends ${n}.`], ['o', `begins ${n}.`], ['o', `half of ${n}.`]]);
  }
});

test('a connection serves one request after another, and pipelined ones', async (t) => {
  const h = await host(t, 'exports.handler = async (event) => event.path;');
  const wire = await h.connect();
  for (const path of ['/a', '/b']) {
    wire.request(path);
    assert.equal((await wire.answer()).text, path);
  }
  wire.send('GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\n');
  for (const path of ['/1', '/2', '/3']) {
    assert.equal((await wire.answer()).text, path);
  }
  wire.close();
});

test('ambiguous requests are refused', async (t) => {
  const h = await host(t, 'exports.handler = () => "served";');
  for (const [request, status] of [
    ['GET / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\nname : value\r\n\r\n', 400],
    ['GET / HTTP/1.1\r\na: b\r\n folded\r\n\r\n', 400],
    ['GET / HTTP/2.0\r\n\r\n', 505],
    ['POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n', 501],
    ['POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n', 400],
    [`GET / HTTP/1.1\r\nbig: ${'x'.repeat(70000)}\r\n\r\n`, 431],
    ['nonsense\r\n\r\n', 400],
  ]) {
    const wire = await h.connect();
    wire.send(request);
    const answer = await wire.answer();
    assert.deepEqual([answer.status, answer.headers['x-tidegate-outcome']], [status, 'platform'], request.slice(0, 80));
    wire.close();
  }
  assert.equal((await h.call()).text, 'served');
});

test('waiting for leave to send, HEAD, and HTTP/1.0', async (t) => {
  const h = await host(t, 'exports.handler = (event) => event.text || "body";');
  const wire = await h.connect();
  wire.send('POST / HTTP/1.1\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n');
  assert.equal((await wire.answer()).status, 100);
  wire.send('abc');
  assert.equal((await wire.answer()).text, 'abc');
  wire.request('/', { method: 'HEAD' });
  const head = await wire.answer('HEAD');
  assert.deepEqual([head.status, head.headers['content-length'], head.text], [200, '4', '']);
  wire.send('GET / HTTP/1.0\r\n\r\n');
  const old = await wire.answer();
  assert.deepEqual([old.headers.connection, old.text], ['close', 'body']);
});
