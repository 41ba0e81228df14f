// Handlers that answer in every way there is: the header `x-case` picks one.
'use strict';

class Classy {
  constructor() {
    this.a = 1;
  }
}

function shown({ body, headers, method, query, path }) {
  const { host, connection, 'x-request-id': _id, 'x-case': _case, ...rest } = headers;
  return {
    body: Buffer.isBuffer(body) ? { buffer: body.toString('latin1') } : body === undefined ? 'undefined' : body,
    type: typeof body, headers: rest, method, query, path,
    own: [Object.getPrototypeOf(query) === null, Object.keys(query)],
  };
}

module.exports = {
  shown: async (event) => shown(event),
  undefined: async () => undefined,
  null: async () => null,
  'null typed': async (_e, c) => {
    c.headers({ 'Content-Type': 'text/css' });
    return null;
  },
  string: async () => 'text é',
  empty: async () => '',
  object: async () => ({ b: 'é', a: [1, null] }),
  array: async () => [1, 'two'],
  'object with a type': async (_e, c) => c.headers({ 'content-type': 'application/json' }).status(201).succeed({ a: 1 }),
  'object of a class': async () => new Classy(),
  'object of nothing': async () => Object.assign(Object.create(null), { a: 1 }),
  buffer: async () => Buffer.from([255, 0, 65]),
  'buffer typed': async (_e, c) => c.headers({ 'Content-Type': 'image/png' }).succeed(Buffer.from([1])),
  'buffer typed text': async (_e, c) => c.headers({ 'Content-Type': 'text/plain; charset=latin1' }).succeed(Buffer.from([233])),
  'buffer empty': async () => Buffer.alloc(0),
  bytes: async () => new Uint8Array([65, 66]),
  true: async () => true,
  false: async () => false,
  date: async () => new Date(0),
  map: async () => new Map([[1, 2]]),
  bigint: async () => 7n,
  symbol: async () => Symbol('s'),
  function: async () => () => 1,
  'number 404': async () => 404,
  'number 200': async () => 200,
  'number 299': async () => 299,
  'number 42': async () => 42,
  'number typed': async (_e, c) => c.headers({ 'content-type': 'a/b' }).succeed(404),
  'nested json': async () => ({ toJSON: () => 'x' }),
  status: async (_e, c) => c.status(418).succeed('teapot'),
  'status read': async (_e, c) => [c.status(), c.status(201).status(), c.headers()],
  'status 204': async (_e, c) => c.status(204).headers({ 'X-A': 'b' }).succeed('gone'),
  'status 205': async (_e, c) => c.status(205).succeed('gone'),
  'status 304': async (_e, c) => c.status(304).headers({ ETag: '"x"' }).succeed('gone'),
  'status 302': async (_e, c) => c.status(302).headers({ Location: '/a b' }).succeed(),
  'headers many': async (_e, c) => c.headers({ 'Set-Cookie': ['a=b', 'c=d'], 'X-N': 7, 'X-U': undefined, 'X-B': true, 'x-é': '1' }).succeed('x'),
  'headers values': async (_e, c) => c.headers({ 'Set-Cookie': ['a=b', 'c=d'], 'X-N': 7, 'X-U': undefined, 'X-B': true, 'X-L': 'é' }).succeed('x'),
  'headers type array': async (_e, c) => c.headers({ 'Content-Type': ['a/b'] }).succeed('x'),
  'headers break': async (_e, c) => c.headers({ 'X-A': 'a\r\nb' }).succeed('x'),
  'headers etag': async (_e, c) => c.headers({ etag: '"mine"' }).succeed('x'),
  'headers length': async (_e, c) => c.headers({ 'content-length': '100' }).succeed('x'),
  'headers on fail': async (_e, c) => c.headers({ 'X-A': 'b' }).fail('no'),
  'type html': async (_e, c) => c.headers({ 'content-type': 'text/html' }).succeed('x'),
  'type params': async (_e, c) => c.headers({ 'content-type': 'Text/Plain; format=flowed; charset=latin1; a=b' }).succeed('x'),
  'type javascript': async (_e, c) => c.headers({ 'content-type': 'application/javascript' }).succeed(Buffer.from('x')),
  'type json buffer': async (_e, c) => c.headers({ 'content-type': 'application/json' }).succeed(Buffer.from('{}')),
  'type fhir buffer': async (_e, c) => c.headers({ 'content-type': 'application/fhir+json' }).succeed(Buffer.from('{}')),
  'type octets string': async (_e, c) => c.headers({ 'content-type': 'application/octet-stream' }).succeed('x'),
  'type bad': async (_e, c) => c.headers({ 'content-type': 'nonsense; x' }).succeed(Buffer.from('x')),
  'type ending': async (_e, c) => c.headers({ 'content-type': 'JSON' }).succeed(Buffer.from('{}')),
  'type file': async (_e, c) => c.headers({ 'content-type': 'a.png' }).succeed(Buffer.from('x')),
  fail: async (_e, c) => c.fail('a reason <&>'),
  'fail error': async (_e, c) => c.fail(new TypeError('a reason')),
  'fail object': async (_e, c) => c.fail({ a: 1 }),
  'fail nothing': async (_e, c) => c.fail(),
  'fail status': async (_e, c) => c.status(409).fail('conflict'),
  'fail without text': async (_e, c) => c.fail(Object.assign(Object.create(null), { a: 1 })),
  reject: async () => {
    throw new Error('a reason <&>');
  },
  'reject status': async (_e, c) => {
    c.status(503);
    throw 'just text';
  },
  callback: (_e, _c, callback) => callback(undefined, { a: 1 }),
  'callback error': (_e, _c, callback) => callback(new Error('no')),
  'callback first': (_e, _c, callback) => {
    callback(null, 'first');
    return 'second';
  },
  'callback late': (_e, _c, callback) => {
    setImmediate(() => callback(null, 'late'));
  },
  'succeed twice': async (_e, c) => {
    c.succeed('first');
    c.succeed('second');
  },
  'succeed late': (_e, c) => new Promise((resolve) => {
    setImmediate(() => {
      c.succeed('late');
      resolve('later');
    });
  }),
  'succeed and return': async (_e, c) => {
    c.succeed('succeeded');
    return 'returned';
  },
  modified: async (_e, c) => c.headers({ 'Last-Modified': 'Wed, 21 Oct 2015 07:28:00 GMT' }).succeed('x'),
  long: async () => 'é'.repeat(2000),
};
