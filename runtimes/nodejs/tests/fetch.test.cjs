'use strict';

const assert = require('assert/strict');
const http = require('http');
const { test } = require('node:test');
const zlib = require('zlib');
const { host, tag } = require('./harness.cjs');

const ESM = (code) => ({ 'app.mjs': code });

test('a request is one, without being built for each', async (t) => {
  const h = await host(t, ESM(`
    export default { async fetch(request, env, ctx) {
      const copy = request.clone();
      return Response.json({
        method: request.method, url: request.url, thing: request.headers.get('X-Thing'), type: String(request),
        instance: [request instanceof Request, copy instanceof Request, new Request('http://x/') instanceof Request],
        made: new Request(request.clone(), { headers: { a: 'b' } }).headers.get('a'),
        json: await request.json(), copied: await copy.text(), used: request.bodyUsed,
        env: env.GREETING, id: ctx.requestId, name: ctx.functionName, aborted: request.signal.aborted,
        ours: [...request.headers.keys()].filter((name) => name.startsWith('x-tidegate')),
      }, { status: 201, headers: { 'x-made': 'yes' } });
    } };`));
  const id = tag();
  const answer = await h.call('/a/b?c=d', { method: 'POST', body: '{"a":1}', headers: {
    'x-thing': 'one', 'x-request-id': id, 'x-forwarded-proto': 'https', 'x-tidegate-deadline-ms': '100' } });
  assert.equal(answer.status, 201);
  assert.deepEqual([answer.headers['content-type'], answer.headers['x-made']], ['application/json', 'yes']);
  assert.deepEqual(answer.json(), {
    method: 'POST', url: 'https://tested/a/b?c=d', thing: 'one', type: '[object Request]', instance: [true, true, true], made: 'b',
    json: { a: 1 }, copied: '{"a":1}', used: true, env: 'hello', id, name: 'tested', aborted: false, ours: [],
  });
});

test('a light request reads its body in every way, once', async (t) => {
  const h = await host(t, ESM(`
    export default async (request) => {
      const way = new URL(request.url).pathname.slice(1);
      if (way === 'twice') { await request.text(); return request.text(); }
      if (way === 'stream') { let size = 0; for await (const part of request.body) size += part.length; return new Response(size); }
      if (way === 'form') { return new Response((await request.formData()).get('a')); }
      const read = await request[way]();
      return new Response(way === 'json' ? read.a : way === 'blob' ? read.size : read);
    };`));
  const post = (way, body, headers) => h.call(`/${way}`, { method: 'POST', body, headers });
  assert.equal((await post('text', 'h\u00e9')).text, 'h\u00e9');
  assert.equal((await post('json', '{"a":"b"}')).text, 'b');
  assert.equal((await post('arrayBuffer', 'bytes')).text, 'bytes');
  assert.equal((await post('blob', 'blob')).text, '4');
  assert.equal((await post('stream', 'x'.repeat(100000))).text, '100000');
  assert.equal((await post('form', 'a=b+c', { 'content-type': 'application/x-www-form-urlencoded' })).text, 'b c');
  assert.equal((await post('twice', 'x')).status, 500);
  const bad = await post('json', '{');
  assert.deepEqual([bad.status, bad.headers['x-tidegate-outcome']], [400, 'application']);
});

test('a light response behaves as one', async (t) => {
  const h = await host(t, ESM(`
    export default async () => {
      const light = new Response('text', { status: 202, statusText: 'Fine', headers: { 'x-a': 'b' } });
      const seen = [light.status, light.ok, light.statusText, light.headers.get('x-a'), light.headers.get('content-type'),
        light instanceof Response, light.bodyUsed, await light.clone().text(), await light.text(), light.bodyUsed,
        Response.redirect('http://x/', 303).status, Response.redirect('http://x/') instanceof Response, new Response().body];
      let thrown = [];
      for (const make of [() => new Response('x', { status: 99 }), () => new Response('x', { status: 204 })]) {
        try { make(); } catch (error) { thrown.push(error.name); }
      }
      return Response.json([...seen, ...thrown]);
    };`));
  assert.deepEqual((await h.call()).json(), [202, true, 'Fine', 'b', 'text/plain;charset=UTF-8', true, false, 'text', 'text', true,
    303, true, null, 'RangeError', 'TypeError']);
});

test('answers stream, cookies stay apart, bodies of every kind are sent', async (t) => {
  const h = await host(t, ESM(`
    const kinds = {
      stream: () => new ReadableStream({ async start(c) { for (const x of ['a', 'b', 'c']) { c.enqueue(new TextEncoder().encode(x)); await 0; } c.close(); } }),
      bytes: () => new Uint8Array([97, 98]), params: () => new URLSearchParams({ a: 'b c' }), blob: () => new Blob(['blob'], { type: 'text/x' }), none: () => null,
    };
    export default { fetch(request) {
      const headers = new Headers(); headers.append('set-cookie', 'a=1'); headers.append('set-cookie', 'b=2');
      return new Response(kinds[new URL(request.url).pathname.slice(1)](), { headers });
    } };`));
  const got = {};
  for (const kind of ['stream', 'bytes', 'params', 'blob', 'none']) {
    const answer = await h.call(`/${kind}`);
    got[kind] = [answer.text, answer.headers['content-type'], answer.headers['set-cookie']?.length];
  }
  assert.deepEqual(got, { stream: ['abc', undefined, 2], bytes: ['ab', undefined, 2],
    params: ['a=b+c', 'application/x-www-form-urlencoded;charset=UTF-8', 2], blob: ['blob', 'text/x', 2], none: ['', undefined, 2] });
});

test('the request streams in while the answer streams out', async (t) => {
  const h = await host(t, ESM(`
    export default async (request) => new Response(request.body.pipeThrough(new TextDecoderStream())
      .pipeThrough(new TransformStream({ transform(text, to) { to.enqueue(text.toUpperCase()); } })).pipeThrough(new TextEncoderStream()));`));
  const wire = await h.connect();
  wire.send('POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n');
  await wire.until('the first piece', () => wire.data.includes('ABC'));
  wire.send('3\r\ndef\r\n0\r\n\r\n');
  assert.equal((await wire.answer()).text, 'ABCDEF');
  wire.close();
});

test('hanging up aborts the signal', async (t) => {
  const h = await host(t, ESM(`
    export default { fetch(request, env, ctx) {
      console.log('begun');
      return new Promise((resolve) => request.signal.addEventListener('abort', () => { console.log('aborted'); resolve(new Response()); }));
    } };`));
  const wire = await h.connect();
  const id = tag();
  wire.request('/', { headers: { 'x-request-id': id } });
  await h.line('begun');
  wire.close();
  assert.equal((await h.line('aborted')).tag, id);
});

test('a cancelled call is told, acknowledged, and others go on', async (t) => {
  const h = await host(t, `
    exports.handler = async (event, context) => {
      if (event.path === '/ok') return 'ok';
      await new Promise((resolve) => context.signal.addEventListener('abort', resolve));
      console.log('noticed');
      return 'late';
    };`, { concurrency: 2 });
  const wire = await h.connect();
  const id = tag();
  wire.request('/', { headers: { 'x-request-id': id } });
  assert.equal((await h.call('/ok')).text, 'ok');
  h.child.send({ cancel: id });
  await h.line('noticed');
  await h.until('an acknowledgement', () => h.said.includes(`I${id}`));
  assert.equal((await h.call('/ok')).text, 'ok');
  // One that has not come yet is acknowledged at once, and refused on arrival.
  const early = tag();
  h.child.send({ cancel: early });
  await h.until('an acknowledgement', () => h.said.includes(`I${early}`));
  await assert.rejects(h.call('/ok', { headers: { 'x-request-id': early } }), /the connection ended/);
});

test('an answer that fails half way ends without an end', async (t) => {
  const h = await host(t, 'exports.handler = async function* () { yield "begun"; throw new Error("half way"); };');
  await assert.rejects(h.call(), /the connection ended/);
  await h.line('Error: half way');
  assert.equal(h.code, undefined);
});

test('drain lets what runs finish, and what is kept', async (t) => {
  const h = await host(t, `
    exports.handler = (event, context) => {
      context.waitUntil(new Promise((resolve) => setTimeout(() => { console.log('kept'); resolve(); }, 50)));
      return new Promise((resolve) => setTimeout(() => resolve('done'), 20));
    };`);
  const call = h.call();
  await new Promise((resolve) => setTimeout(resolve, 5));
  const answer = await call;
  assert.equal(answer.text, 'done');
  h.child.send({ drain: true });
  assert.equal(await h.exited, 0);
  assert.ok(h.lines.some((line) => line.text === 'kept'));
});

test('what fetch brought may be the answer, also where it came packed', async (t) => {
  const far = http.createServer((req, res) => {
    const body = zlib.gzipSync(`far ${req.url} ${req.headers['x-thing'] ?? ''}`);
    res.writeHead(203, { 'content-encoding': 'gzip', 'content-length': body.length, 'content-type': 'text/x', 'x-far': 'yes' }).end(body);
  });
  await new Promise((resolve) => far.listen(0, '127.0.0.1', resolve));
  t.after(() => far.close());
  const h = await host(t, ESM(`
    export default (request) => {
      const to = new URL(request.url);
      return fetch(new Request('http://127.0.0.1:${far.address().port}' + to.pathname, request));
    };`));
  const answer = await h.call('/a', { headers: { 'x-thing': 'sent on' } });
  assert.deepEqual([answer.status, answer.text, answer.headers['content-type'], answer.headers['x-far'], answer.headers['content-encoding']],
    [203, 'far /a sent on', 'text/x', 'yes', undefined]);
  far.closeAllConnections();
});
