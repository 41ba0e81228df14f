'use strict'

// A schedule in, the times that it means out: ?cron=, and from when and how many.

const { CronExpressionParser } = require('cron-parser')

const DAY = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,3})?)?(Z|[+-]\d{2}:\d{2})?)?$/

module.exports = async (event, context) => {
  const { cron, from = new Date().toISOString(), count = '5', tz = process.env.TIMEZONE || 'UTC' } = event.query
  const refuse = (error) => context.status(400).headers({ 'content-type': 'application/json' }).succeed({ error })

  const most = Number(process.env.MOST || 20)
  const wanted = Number(count)
  if (!cron) return refuse('cron is missing, such as ?cron=0+6+*+*+1-5')
  if (!Number.isInteger(wanted) || wanted < 1 || wanted > most) {
    return refuse(`count is ${JSON.stringify(count)}; expected a whole number from 1 to ${most}`)
  }
  if (!DAY.test(from) || Number.isNaN(Date.parse(from))) {
    return refuse(`from is ${JSON.stringify(from)}; expected a time such as 2026-03-01T12:00:00Z`)
  }

  try {
    const schedule = CronExpressionParser.parse(cron, { currentDate: from, tz })
    const times = Array.from({ length: wanted }, () => schedule.next().toDate().toISOString())
    return context.status(200).headers({ 'content-type': 'application/json' }).succeed({ cron, tz, times })
  } catch (error) {
    return refuse(`no schedule: ${error.message}`)
  }
}
