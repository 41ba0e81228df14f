# frozen_string_literal: true

require_relative "ledger"

# A bank statement as CSV in, its totals as JSON out: by month, or with `?by=category` by category.
def handler(event, context)
  return refuse(405, "send the statement by POST", "Allow" => "POST") unless event.method == "POST"

  by = event.query.fetch("by", "month")
  return refuse(400, "by is #{by[0, 20].inspect}; expected month or category") unless Ledger::BY.include?(by)

  Ledger.read(event.text).totals(by)
rescue Ledger::Unreadable => error
  refuse(422, error.message)
end

def refuse(status, error, headers = {})
  {
    "statusCode" => status,
    "headers" => { "Content-Type" => "application/json", **headers },
    "body" => JSON.generate({ error: error }),
  }
end
