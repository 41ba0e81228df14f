LOADED = "loaded"

def handler(event, context)
  case event.path
  when "/event"
    { method: event.method, rawPath: event.raw_path, queryString: event.query_string, query: event.query,
      list: event.query_list("a"), contentType: event.content_type, text: event.text, header: event.headers["X-Thing"],
      all: event.headers.all("x-thing"), hidden: event.headers.key?("x-tidegate-deadline-ms") }
  when "/context"
    { id: context.request_id, function: context.function_name, memory: context.memory_limit_bytes,
      left: context.remaining_ms }
  when "/none" then nil
  when "/text" then "grün"
  when "/bytes" then "\xff\x00".b
  when "/number" then 1.5
  when "/list" then [1, "a", nil, true]
  when "/not-a-number" then Float::NAN
  when "/proxy"
    { "statusCode" => 201, "headers" => { "X-One" => "1" }, "multiValueHeaders" => { "x-two" => %w[a b] },
      "cookies" => ["c=1"], "body" => "aGVsbG8=", "isBase64Encoded" => true }
  when "/response" then Tidegate::Response.new({ a: 1 }, 404, { "x-tidegate-outcome" => "ok", "content-type" => "text/x" })
  when "/status" then Tidegate::Response.new("", 99)
  when "/inject" then Tidegate::Response.new("", 200, { "x-a" => "b\r\nx-c: d" })
  when "/stream"
    Enumerator.new { |out| %w[one two].each { |each| out << each } }
  when "/late"
    Enumerator.new do |out|
      out << "one"
      raise "late"
    end
  when "/size" then event.stream.each.sum(&:bytesize).to_s
  when "/json" then event.json
  when "/ignore" then "ignored"
  when "/log"
    puts "to out"
    warn "to err"
    context.log.info("to log")
    nil
  when "/object" then Object.new
  when "/slow"
    sleep 0.4
    "slow"
  else raise ArgumentError, "no such path"
  end
end
