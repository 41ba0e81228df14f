# frozen_string_literal: true

# What a handler returned, read as an HTTP answer; what it raised, as an error.

module Tidegate
  module Answers
    TEXT = "text/plain; charset=utf-8"
    BINARY = "application/octet-stream"
    JSON_TYPE = "application/json"

    module_function

    # Answers an exchange by a handler's result.
    def send(exchange, result)
      status, fields, body = shape(result)
      return exchange.respond(status, fields, body) if body.is_a?(String)

      stream(exchange, status, fields, body)
    end

    # A result as [status, fields, body]; the body is a String or something with `each`.
    def shape(result)
      if result.is_a?(Hash) && (result.key?("statusCode") || result.key?(:statusCode))
        result = Response.from_proxy(result)
      end
      return with_type(200, [], result) unless result.is_a?(Response)

      with_type(Http1.check_status(result.status), Tidegate.pairs(result.headers), result.body)
    end

    def with_type(status, fields, value)
      body, type = read(value)
      fields = [*fields, ["content-type", type]] if type && fields.none? { |name, _| name.to_s.casecmp?("content-type") }
      [status, fields, body]
    end

    # [String or enumerable, content type or nil] of one returned value.
    def read(value)
      case value
      when nil then ["", nil]
      when String then text(value)
      when Symbol then [value.to_s, TEXT]
      when Hash, Array, Numeric, true, false
        require "json"
        [JSON.generate(value), JSON_TYPE]
      when Enumerator, Enumerator::Lazy then [value, BINARY]
      when IO then [IoPieces.new(value), BINARY]
      else
        raise TypeError, "handler returned #{value.class}, expected nil, a String, something JSON can hold, " \
                         "an Enumerator, an IO, a Hash with statusCode or Tidegate::Response"
      end
    end

    # A string in a text encoding is text; bytes (`b`, File.binread) are not.
    def text(value)
      return [value, BINARY] if value.encoding == Encoding::BINARY && !value.ascii_only?

      value = value.encode(Encoding::UTF_8) unless value.encoding == Encoding::UTF_8 || value.encoding == Encoding::BINARY
      [value, value.valid_encoding? ? TEXT : BINARY]
    end

    # Sends pieces as they come. The head waits for the first: a failure until then is a clean 500.
    def stream(exchange, status, fields, pieces)
      pieces.each do |piece|
        raise TypeError, "a streamed body gave #{piece.class}, expected String" unless piece.is_a?(String)

        unless exchange.started
          if piece.encoding != Encoding::BINARY && fields.include?(["content-type", BINARY])
            fields = fields.map { |name, value| value.equal?(BINARY) ? [name, TEXT] : [name, value] }
          end
          exchange.start(status, fields)
        end
        exchange.write(piece)
      end
      exchange.start(status, fields) unless exchange.started
      exchange.finish
    end

    # Answers an exception that a function let propagate, or breaks the answer off.
    def fail(exchange, failure)
      case failure
      when PeerGone then return
      when BadRequest then return error(exchange, failure.status, failure.message, "platform")
      when InvalidJson then return error(exchange, 400, failure.message, "application") unless exchange.started
      when BodyTooLarge then return error(exchange, 413, failure.message, "application") unless exchange.started
      end
      $stderr.write(trace(failure))
      $stderr.flush
      error(exchange, 500, "function failed", "function")
    end

    # An error as JSON with the request's id. Once an answer has begun there is no way but to break it off.
    def error(exchange, status, message, outcome)
      return if exchange.started

      body = %({"error":#{quote(message)},"requestId":#{quote(exchange.head.request_id)}})
      exchange.respond(status, [["content-type", JSON_TYPE]], body, outcome)
    rescue PeerGone
      nil
    end

    def quote(text)
      return "null" if text.nil?

      text = text.dup.force_encoding(Encoding::UTF_8).scrub
      %("#{text.gsub(/["\\\x00-\x1f]/) { |c| format("\\u%04x", c.ord) }}")
    end

    # The trace as text, without the host's own frames.
    def trace(failure)
      lines = ["#{failure.class}: #{message(failure)}\n"]
      frames = (failure.backtrace || []).reject { |frame| frame.start_with?(HERE, "<internal:") }
      lines.concat(frames.first(50).map { |frame| "    from #{frame.delete_prefix("/function/")}\n" })
      cause = failure.cause
      lines << "caused by #{cause.class}: #{message(cause)}\n" if cause
      lines.join
    end

    def message(failure)
      failure.message.to_s.dup.force_encoding(Encoding::UTF_8).scrub
    rescue Exception => error # rubocop:disable Lint/RescueException -- a `message` of the function's may raise anything.
      "(its text could not be made: #{error.class})"
    end
  end

  # Reads an IO in pieces and closes it.
  class IoPieces
    def initialize(io)
      @io = io
    end

    def each
      while (data = @io.read(Http1::RECV))
        yield data
      end
    ensure
      @io.close
    end
  end
end
