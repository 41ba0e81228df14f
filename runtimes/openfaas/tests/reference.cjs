// The real Express behind the rules of the templates, to compare with. Nothing of it is ever deployed.
'use strict';

const { express: peers } = require('./peers.cjs');

const ROUTED = ['get', 'post', 'put', 'patch', 'delete', 'options'];

/** An app for the template `node<major>` around a handler. */
function reference(major, handler, env = {}) {
  const modern = major >= 22;
  const need = peers(modern ? 5 : 4);
  const app = need('express')();
  const parser = need('body-parser');
  app.disable('x-powered-by');
  // Express tells of failures it makes pages of; the test is not about that.
  app.set('env', 'test');
  app.use((req, _res, next) => {
    req.headers['content-type'] ||= 'text/plain';
    next();
  });
  if (env.RAW_BODY === 'true') {
    app.use(parser.raw({ type: '*/*', limit: env.MAX_RAW_SIZE || '100kb' }));
  } else {
    app.use(parser.text({ type: 'text/*' }));
    app.use(parser.json({ limit: env.MAX_JSON_SIZE || '100kb' }));
    app.use(parser.urlencoded({ extended: true }));
  }
  const serve = async (req, res) => {
    const plain = (value) => Boolean(value) && [Array, Object].includes(value.constructor);
    const context = {
      code: 200,
      fields: {},
      told: false,
      status(code) {
        if (!code) {
          return this.code;
        }
        this.code = code;
        return this;
      },
      headers(fields) {
        if (!fields) {
          return this.fields;
        }
        this.fields = fields;
        return this;
      },
      succeed(value) {
        this.told = true;
        tell(undefined, value);
      },
      fail(failure) {
        if (this.code === 200) {
          this.code = 500;
        }
        this.told = true;
        tell(failure);
      },
    };
    function tell(failure, value) {
      if (res.headersSent) {
        // The template would answer twice, and its process end. The first answer is what its caller saw.
        return;
      }
      if (failure) {
        res.status(context.status()).send(failure.toString ? failure.toString() : failure);
        return;
      }
      res.set(context.headers()).status(context.status()).send(plain(value) ? JSON.stringify(value) : value);
    }
    const event = { body: req.body, headers: req.headers, method: req.method, query: req.query, path: req.path };
    Promise.resolve(handler(event, context, tell))
      .then((value) => context.told || context.succeed(value))
      .catch((failure) => tell(failure));
  };
  if (modern) {
    app.all('/*path', serve);
    app.all('/', serve);
  } else {
    for (const method of ROUTED) {
      app[method]('/*', serve);
    }
  }
  return app;
}

module.exports = { reference };
