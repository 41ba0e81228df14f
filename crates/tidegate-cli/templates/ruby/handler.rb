# frozen_string_literal: true

require "json"

# Greets whoever is named.
def handler(event, context)
  name = event.query["name"]
  name = JSON.parse(event.text)["name"] if event.method == "POST"
  context.log.info("greeting #{name || 'nobody in particular'}")
  { "hello" => name || "world" }
rescue JSON::ParserError
  {
    "statusCode" => 400,
    "headers" => { "Content-Type" => "application/json" },
    "body" => JSON.generate("error" => "the body is not JSON"),
  }
end
