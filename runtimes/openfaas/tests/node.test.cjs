// The Node templates beside the real Express: every case answered by both, and both alike.
'use strict';

process.env.NO_DEPRECATION = 'express,body-parser';

const assert = require('assert/strict');
const { spawn, spawnSync } = require('child_process');
const fs = require('fs');
const http = require('http');
const net = require('net');
const path = require('path');
const { test } = require('node:test');
const { isDeepStrictEqual } = require('util');
const zlib = require('zlib');
const { host, refusal, bundle, Wire } = require('../../nodejs/tests/harness.cjs');
const { parseForm } = require('../node/tidegate-openfaas/forms.cjs');
const { express } = require('./peers.cjs');
const { reference } = require('./reference.cjs');

const SHIM = path.join(__dirname, '..', 'node');
const HANDLER = "const cases = require('./cases.cjs');\n"
  + "module.exports = (event, context, callback) => cases[event.headers['x-case']](event, context, callback);\n";
const CASES = fs.readFileSync(path.join(__dirname, 'cases.cjs'), 'utf8');
const cases = require('./cases.cjs');

const MAJORS = [18, 22];

// Fields that are the servers' own.
const SERVERS = new Set(['date', 'connection', 'keep-alive', 'x-tidegate-outcome']);

/** A source tree as the builder makes it: our entry first, the handler's folder. */
function tree(major, handler = HANDLER, entry = 'index.js', language = `node${major}`) {
  const files = { 'index.js': fs.readFileSync(path.join(SHIM, entry), 'utf8').replaceAll('@LANGUAGE@', language) };
  for (const name of fs.readdirSync(path.join(SHIM, 'tidegate-openfaas'))) {
    files[`tidegate-openfaas/${name}`] = fs.readFileSync(path.join(SHIM, 'tidegate-openfaas', name), 'utf8');
  }
  return { ...files, 'function/handler.js': handler, 'function/cases.cjs': CASES };
}

function ours(t, major, env = {}, handler = HANDLER) {
  return host(t, tree(major, handler), { handler: 'handler', concurrency: 100, env });
}

/** The real one on a port of its own. */
async function real(t, major, env = {}, handler = (e, c, cb) => cases[e.headers['x-case']](e, c, cb)) {
  const server = http.createServer(reference(major, handler, env));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  await new Promise((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    connect: () => new Promise((resolve, reject) => {
      const socket = net.connect(server.address().port, '127.0.0.1', () => resolve(new Wire(socket)));
      socket.on('error', reject);
    }),
  };
}

async function call(one, target, { method = 'GET', headers = {}, body = '' } = {}) {
  // One connection for many calls, until it ends.
  if (one.wire === undefined || one.wire.ended) {
    one.wire = await one.connect();
  }
  const wire = one.wire;
  const all = { host: 'tested', ...headers };
  if (body !== '' && !('transfer-encoding' in all)) {
    all['content-length'] ??= Buffer.byteLength(body);
  }
  const fields = Object.entries(all).flatMap(([name, value]) => [].concat(value).map((each) => `${name}: ${each}\r\n`));
  // In one piece: a second one would wait for the first to be acknowledged.
  wire.send(Buffer.concat([Buffer.from(`${method} ${target} HTTP/1.1\r\n${fields.join('')}\r\n`), Buffer.from(body)]));
  const answer = await wire.answer(method);
  if (answer.headers.connection === 'close') {
    wire.close();
    one.wire = undefined;
  }
  const kept = Object.fromEntries(Object.entries(answer.headers).filter(([name]) => !SERVERS.has(name)));
  if (method === 'HEAD' && kept['content-length'] === '0') {
    // Said by one and left out by the other, it is the same.
    delete kept['content-length'];
  }
  let text = answer.body.toString('latin1');
  if (text.startsWith('<!DOCTYPE html>')) {
    // Where in Express it happened is no part of the page that we show.
    text = text.replace(/(?:<br> &nbsp; &nbsp;at [^<]*)+/, '');
    delete kept['content-length'];
  }
  return { status: answer.status, headers: kept, body: text };
}

/** Both of them. The test fails at its end with all that was not the same. */
class Pair {
  static async of(t, major, env = {}) {
    return new Pair(await real(t, major, env), await ours(t, major, env));
  }

  constructor(theirs, mine) {
    this.theirs = theirs;
    this.mine = mine;
    this.differences = [];
  }

  /** What ours answers. */
  async same(what, target, request) {
    const theirs = await call(this.theirs, target, request);
    const mine = await call(this.mine, target, request);
    if (!isDeepStrictEqual(mine, theirs)) {
      this.differences.push({ what, mine, theirs });
    }
    return mine;
  }

  end() {
    this.theirs.wire?.close();
    this.mine.wire?.close();
    assert.deepEqual(this.differences, []);
  }
}

for (const major of MAJORS) {
  test(`node${major}: what a handler may answer`, async (t) => {
    const both = await Pair.of(t, major);
    for (const name of Object.keys(cases)) {
      for (const method of ['GET', 'POST', 'HEAD']) {
        await both.same(`${name} by ${method}`, '/a?b=c', { method, headers: { 'x-case': name } });
      }
    }
    both.end();
  });

  test(`node${major}: methods and paths`, async (t) => {
    const both = await Pair.of(t, major);
    const headers = { 'x-case': 'shown' };
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND', 'REPORT', 'LINK']) {
      await both.same(method, '/x/y%20z?a', { method, headers });
    }
    for (const target of ['/', '//a//b', '/%C3%A9', '/a%2Fb', '/%zz', '/%ff?x', '/a;b,c', "/<'&\">", '/x?']) {
      await both.same(target, target, { headers });
      await both.same(target, target, { method: 'PROPFIND', headers });
    }
    both.end();
  });

  test(`node${major}: headers`, async (t) => {
    const both = await Pair.of(t, major);
    await both.same('repeated', '/', { headers: {
      'x-case': 'shown', 'X-Two': ['1', '2'], Cookie: ['a=b', 'c=d'], 'User-Agent': ['one', 'two'], 'Set-Cookie': ['a', 'b'],
      'Content-Type': ['text/html', 'a/b'], Referer: ['r', 's'], x_low: 'yes',
    } });
    both.end();
  });

  test(`node${major}: queries`, async (t) => {
    const both = await Pair.of(t, major);
    for (const query of QUERIES) {
      await both.same(query, `/?${query}`, { headers: { 'x-case': 'shown' } });
    }
    both.end();
  });

  test(`node${major}: bodies`, async (t) => {
    const both = await Pair.of(t, major);
    for (const [type, body, more] of bodies()) {
      const headers = { 'x-case': 'shown', ...(type === null ? {} : { 'content-type': type }), ...more };
      await both.same(`${type} ${body.slice(0, 40)} ${JSON.stringify(more)}`, '/', { method: 'POST', headers, body });
    }
    await both.same('none', '/', { method: 'POST', headers: { 'x-case': 'shown' } });
    await both.same('none of JSON', '/', { method: 'POST', headers: { 'x-case': 'shown', 'content-type': 'application/json' } });
    for (const type of ['text/plain', 'application/json', 'application/x-www-form-urlencoded', 'a/b']) {
      await both.same(`empty ${type}`, '/', { method: 'POST', headers: { 'x-case': 'shown', 'content-type': type, 'content-length': '0' } });
    }
    await both.same('chunked', '/', {
      method: 'POST', body: '3\r\n{"a\r\n4\r\n": 1\r\n1\r\n}\r\n0\r\n\r\n',
      headers: { 'x-case': 'shown', 'content-type': 'application/json', 'transfer-encoding': 'chunked' },
    });
    await both.same('one that a route refuses', '/', {
      method: 'PROPFIND', headers: { 'x-case': 'shown', 'content-type': 'application/json' }, body: '{',
    });
    both.end();
  });

  test(`node${major}: forms`, async (t) => {
    const both = await Pair.of(t, major);
    const headers = { 'x-case': 'shown', 'content-type': 'application/x-www-form-urlencoded' };
    const deep = `a${'[b]'.repeat(40)}=1`;
    const wide = Array.from({ length: 1001 }, (_, at) => `a=${at}`).join('&');
    for (const body of [...QUERIES, deep, wide, wide.slice(0, wide.lastIndexOf('&')), 'a[99]=1', 'a[100]=1']) {
      if (body !== '') {
        await both.same(body.slice(0, 80), '/', { method: 'POST', headers, body });
      }
    }
    await both.same('in Latin-1', '/', {
      method: 'POST', body: 'a=%e9+x', headers: { ...headers, 'content-type': `${headers['content-type']}; charset=ISO-8859-1` },
    });
    both.end();
  });

  test(`node${major}: limits and raw bodies by the environment`, async (t) => {
    const json = `{"a": "${'x'.repeat(150_000)}"}`;
    const raised = await Pair.of(t, major, { MAX_JSON_SIZE: '200kb' });
    const headers = { 'x-case': 'shown', 'content-type': 'application/json' };
    assert.equal((await raised.same('raised', '/', { method: 'POST', headers, body: json })).status, 200);
    headers['content-type'] = 'text/plain';
    assert.equal((await raised.same('not raised', '/', { method: 'POST', headers, body: json })).status, 413);
    const raw = await Pair.of(t, major, { RAW_BODY: 'true', MAX_RAW_SIZE: '160kb' });
    for (const type of ['text/plain', 'application/json', 'a/b', 'nonsense']) {
      headers['content-type'] = type;
      for (const body of ['\xff{', json, 'x'.repeat(170_000)]) {
        await raw.same(`${type} ${body.length}`, '/', { method: 'POST', headers, body });
      }
    }
    await raw.same('none', '/', { method: 'POST', headers: { 'x-case': 'shown' } });
    raised.end();
    raw.end();
  });

  test(`node${major}: what a caller has already`, async (t) => {
    const both = await Pair.of(t, major);
    const { headers: { etag } } = await both.same('first', '/', { headers: { 'x-case': 'string' } });
    for (const headers of [
      { 'if-none-match': etag }, { 'if-none-match': `"x", ${etag}` }, { 'if-none-match': etag.slice(2) }, { 'if-none-match': '*' },
      { 'if-none-match': '"x"' }, { 'if-none-match': etag, 'cache-control': 'no-cache' }, { 'if-modified-since': 'Wed, 21 Oct 2015 07:28:00 GMT' },
      { 'if-modified-since': 'Wed, 21 Oct 2015 07:27:00 GMT' }, { 'if-modified-since': 'nonsense' },
      { 'if-none-match': etag, 'if-modified-since': 'Wed, 21 Oct 2015 07:27:00 GMT' },
    ]) {
      for (const name of ['string', 'modified', 'null', 'undefined', 'fail', 'headers etag']) {
        for (const method of ['GET', 'HEAD', 'POST']) {
          await both.same(`${name} ${method} ${JSON.stringify(headers)}`, '/', { method, headers: { 'x-case': name, ...headers } });
        }
      }
    }
    both.end();
  });
}

const QUERIES = [
  '', 'a=1', 'a', 'a=', '=1', '&&a=1&', 'a=1&a=2', 'a=b=c', 'a=%20+%C3%A9', 'a=%ff', 'a%20b=1', 'a[b]=1', 'a[b][c]=1&a[b][d]=2',
  'a[]=1', 'a[]=1&a[]=2', 'a[0]=x&a[1]=y', 'a[1]=x&a[0]=y', 'a[5]=x', 'a[20]=x', 'a[1000]=x', 'a=1&a[b]=2', 'a[b]=2&a=1', 'a[b]=2&a=1&a=3',
  'a[0]=x&a[b]=y', 'a[b]=x&a[0]=y', 'a[b]=1&a[b]=2', 'a[b][]=1&a[b][]=2', 'a[][b]=1&a[][b]=2', 'a[0][b]=1&a[0][c]=2', 'a[]=1&a=2',
  'a=1&a[]=2', 'a[b]=&a[b]=2', 'a=&a[b]=1', '[a]=1', '[]=1', 'a[=1', 'a]=1', 'a[b=1', 'a[b]c=1', 'a[[b]]=1', 'a[b]]=1', 'a[b][c][d][e][f][g]=1',
  '__proto__=1', 'a[__proto__]=1', 'a[__proto__][b]=1', 'constructor=1', 'hasOwnProperty=1&a[toString]=2', 'a%5Bb%5D=1', 'a.b=1', 'a[b]=1&a[b][c]=2',
  'a[b][c]=1&a[b]=2', '1=a&0=b', 'a[-1]=x', 'a[01]=x', 'a[%20]=x', 'a[b]=1;c=2', 'a,b=1,2', 'a[]=', 'a[]', 'a[0]=&a[1]=x', 'utf8=%E2%9C%93&a=1',
];

/** Content type, body and further fields. */
function bodies() {
  const long = 'x'.repeat(102_400);
  return [
    ['text/plain', 'text \u00e9'], [null, 'text'], ['text/html; charset=utf-8', '<p>'], ['text/plain; charset=iso-8859-1', 'latin'],
    ['text/plain; charset=utf-16le', 'a\0b\0'], ['text/plain; charset=nonsense', 'x'], ['text/plain; charset="UTF-8"', '\ufeffx'],
    ['TEXT/Csv', 'a,b'], ['text/plain', long], ['text/plain', `${long}x`],
    ['application/json', '{"a": [1, {"b": null}]}'], ['application/json', '[1]'], ['application/json', ' \n {"a":1} '],
    ['application/json', '7'], ['application/json', '"text"'], ['application/json', 'null'], ['application/json', '{'],
    ['application/json', '{"a": 1,}'], ['application/json', ' '], ['application/json', '{"a":1} x'], ['application/json', 'x<y'],
    ['application/json; charset=utf-8', '{"\u00e9": 1}'], ['application/json; charset=latin1', '{}'], ['Application/JSON;x', '{"a":1}'],
    ['application/json', `"${long}"`], ['application/json', '{"__proto__": {"x": 1}}'], ['application/problem+json', '{}'], ['application/json', '\ufeff{}'],
    ['application/x-www-form-urlencoded', 'a=1&b[c]=2'], ['application/x-www-form-urlencoded; charset=koi8-r', 'a=1'],
    ['application/octet-stream', '\x01\x02'], ['a', 'x'], ['multipart/form-data; boundary=x', '--x--'], ['text/', 'x'], ['*/*', 'x'],
    ['text/plain', zlib.gzipSync('zipped'), { 'content-encoding': 'gzip' }], ['application/json', zlib.deflateSync('{"z":1}'), { 'content-encoding': 'Deflate' }],
    ['text/plain', zlib.brotliCompressSync('brotli'), { 'content-encoding': 'br' }], ['text/plain', 'x', { 'content-encoding': 'identity' }],
    ['text/plain', 'x', { 'content-encoding': 'rot13' }], ['text/plain', 'not zipped', { 'content-encoding': 'gzip' }],
    ['text/plain', zlib.gzipSync(`${long}x`), { 'content-encoding': 'gzip' }], ['a/b', 'x', { 'content-encoding': 'rot13' }],
  ];
}

test('names of forms nest as they do for Express, however strange they are', () => {
  const { parse } = express(4)('qs');
  // A generator of its own, so that every run tries the same.
  let seed = 7;
  const random = (below) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return Math.floor((seed / 2147483648) * below);
  };
  const pieces = ['a', 'b', '0', '1', '7', '[', ']', '[]', '[a]', '[b]', '[0]', '[1]', '[][]', '=', '&', '=1', '=2&', '%5B', '+'];
  for (let round = 0; round < 5_000; round += 1) {
    let text = '';
    for (let left = random(14); left >= 0; left -= 1) {
      text += pieces[random(pieces.length)];
    }
    const theirs = parse(text, { allowPrototypes: true, arrayLimit: 1000 });
    assert.deepEqual(parseForm(text, { parameters: 1000, depth: 5, arrays: 1000, strict: false }), theirs, text);
  }
});

test('a synchronous failure is a page of 500 and costs nobody the process', async (t) => {
  for (const major of MAJORS) {
    const h = await ours(t, major, {}, "module.exports = (event) => { if (event.path === '/bad') throw new RangeError('a reason'); return 'good'; };");
    const answer = await h.call('/bad');
    assert.equal(answer.status, 500);
    assert.match(answer.text, /<pre>RangeError: a reason<br> &nbsp; &nbsp;at module\.exports /);
    await h.line('RangeError: a reason');
    assert.equal((await h.call('/')).text, 'good');
  }
});

test('in production no page shows a trace', async (t) => {
  const h = await ours(t, 22, { NODE_ENV: 'production' }, "module.exports = () => { throw new Error('secret'); };");
  const answer = await h.call('/');
  assert.match(answer.text, /<pre>Internal Server Error<\/pre>/);
});

test('a status that cannot be sent fails its call alone', async (t) => {
  for (const [major, code] of [[18, 42], [18, 102], [22, '"404"'], [22, 42]]) {
    const h = await ours(t, major, {}, `module.exports = async (e, c) => e.path === '/' ? 'good' : c.status(${code}).succeed('x');`);
    assert.equal((await h.call('/bad')).status, 500, `${code}`);
    assert.equal((await h.call('/')).text, 'good');
  }
});

test('a handler may be a default export', async (t) => {
  const h = await ours(t, 20, {}, 'exports.default = async (event) => event.method;');
  assert.equal((await h.call('/')).text, 'GET');
});

test('what is no function is refused when it is loaded', async (t) => {
  const said = await refusal(t, tree(20, 'module.exports = { run() {} };'), { handler: 'handler' });
  assert.match(said.error, /function\/handler\.js exports a value of type object, expected a function: module\.exports = async/);
  const size = await refusal(t, tree(20), { handler: 'handler', env: { MAX_JSON_SIZE: 'large' } });
  assert.match(size.error, /MAX_JSON_SIZE is "large", expected a size such as 1mb/);
});

test('node index.js serves by itself', async (t) => {
  const folder = bundle(t, tree(20));
  const probe = net.createServer();
  await new Promise((resolve) => {
    probe.listen(0, '127.0.0.1', resolve);
  });
  const { port } = probe.address();
  await new Promise((resolve) => {
    probe.close(resolve);
  });
  const child = spawn(process.execPath, ['index.js'], { cwd: folder, env: { http_port: String(port) }, stdio: 'inherit' });
  t.after(() => child.kill('SIGKILL'));
  let answer;
  for (;;) {
    try {
      answer = await fetch(`http://127.0.0.1:${port}/x?a[b]=1`, { method: 'POST', body: '{"c":1}', headers: { 'x-case': 'shown', 'content-type': 'application/json' } });
      break;
    } catch (failure) {
      assert.equal(child.exitCode, null, String(failure));
      await new Promise((resolve) => {
        setTimeout(resolve, 20);
      });
    }
  }
  const got = await answer.json();
  assert.deepEqual([got.body, got.query, got.path, got.method], [{ c: 1 }, { a: { b: '1' } }, '/x', 'POST']);
  const head = await fetch(`http://127.0.0.1:${port}/`, { method: 'HEAD', headers: { 'x-case': 'string' } });
  assert.deepEqual([head.status, head.headers.get('content-length'), await head.text()], [200, '7', '']);
});

test('the classic template prints what a handler answers', (t) => {
  for (const [handler, printed, told] of [
    ['module.exports = async (input) => input.toUpperCase()', 'A\u00c9\n', ''],
    ['module.exports = async () => ({ a: 1 })', '{"a":1}\n', ''],
    ['module.exports = async () => [1]', '[1]\n', ''],
    ['module.exports = async () => ""', '', ''],
    ['module.exports = async () => 0', '', ''],
    ['module.exports = (input, callback) => callback(null, input)', 'a\u00e9\n', ''],
    ['module.exports = (input, callback) => callback("no")', '', 'no'],
    ['module.exports = (input, callback) => setImmediate(() => callback(null, { late: true }))', '{"late":true}\n', ''],
    ['module.exports = () => "ignored"', '', ''],
    ['module.exports = async () => { throw new Error("no") }', '', 'Error: no'],
    ['module.exports = () => { throw new Error("no") }', '', 'Error: no'],
    ['module.exports = async () => 7', '', 'ERR_INVALID_ARG_TYPE'],
  ]) {
    const folder = bundle(t, tree(0, handler, 'classic.js', 'node'));
    const done = spawnSync(process.execPath, ['index.js'], { cwd: folder, input: 'a\u00e9\n', encoding: 'utf8', env: {} });
    assert.deepEqual([done.status, done.stdout], [0, printed], handler + done.stderr);
    assert.equal(told === '' ? done.stderr : done.stderr.includes(told), told === '' ? '' : true, handler + done.stderr);
  }
});
