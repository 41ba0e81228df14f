'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const handle = require('./handler.js')

/** The template's context, as far as the handler uses it. */
function ask (query) {
  const said = { status: 200 }
  const context = {
    status: (code) => { said.status = code; return context },
    headers: () => context,
    succeed: (body) => { said.body = body }
  }
  return handle({ query }, context).then(() => said)
}

test('a schedule crosses a change of clocks', async () => {
  const { status, body } = await ask({ cron: '30 7 * * 1-5', from: '2026-03-26T12:00:00Z', count: '3', tz: 'Europe/Paris' })
  assert.equal(status, 200)
  assert.deepEqual(body.times, ['2026-03-27T06:30:00.000Z', '2026-03-30T05:30:00.000Z', '2026-03-31T05:30:00.000Z'])
})

test('what is wrong is named', async () => {
  for (const [query, word] of [
    [{}, 'cron is missing'],
    [{ cron: 'now and then' }, 'no schedule'],
    [{ cron: '0 6 * * *', tz: 'Moon/Base' }, 'no schedule'],
    [{ cron: '0 6 * * *', count: '21' }, 'from 1 to 20'],
    [{ cron: '0 6 * * *', count: 'a' }, 'from 1 to 20'],
    [{ cron: '0 6 * * *', from: 'noon' }, 'expected a time'],
    [{ cron: '0 6 * * *', from: '2026-13-01' }, 'expected a time']
  ]) {
    const { status, body } = await ask(query)
    assert.equal(status, 400, JSON.stringify(query))
    assert.ok(body.error.includes(word), `${JSON.stringify(query)}: ${body.error}`)
  }
})
