# frozen_string_literal: true

# HTTP/1.1 heads and bodies: reading requests, composing responses.
#
# Only the platform's server speaks to a host, yet what it passes on was written by strangers. So everything ambiguous
# about where a message ends is refused: a length beside a transfer coding, repeated lengths, folded lines, a space before
# the colon, bare CR, LF or NUL.

module Tidegate
  # A head or body that cannot be served; `status` says with what to answer.
  class BadRequest < StandardError
    attr_reader :status

    def initialize(message, status = 400)
      super(message)
      @status = status
    end
  end

  # The server closed the connection before the exchange was complete.
  class PeerGone < StandardError; end

  module Http1
    # Bytes of a head. The server holds its own clients to less; beyond it somebody is up to something.
    HEAD_MAX = 64 * 1024
    # Bytes of a chunk's size line with its extensions, and of trailers; nobody uses either.
    SIZE_LINE_MAX = 1024
    TRAILERS_MAX = 16 * 1024
    # Bytes asked for at once.
    RECV = 64 * 1024
    # A body that nobody read is thrown away up to so many bytes; beyond it the connection ends.
    SKIP_MAX = 256 * 1024

    TOKEN = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+"
    REQUEST_LINE = %r{\A(#{TOKEN}) ([\x21-\xff]+) HTTP/1\.([01])\z}n
    FIELD = /\A(#{TOKEN}):([^\r\n\0]*)\z/n
    NAME = /\A#{TOKEN}\z/n
    BAD_VALUE = /[\r\n\0]/n
    DIGITS = /\A[0-9]{1,19}\z/
    SIZE = /\A([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?\z/n

    REASONS = {
      200 => "OK", 201 => "Created", 202 => "Accepted", 203 => "Non-Authoritative Information", 204 => "No Content",
      206 => "Partial Content", 301 => "Moved Permanently", 302 => "Found", 303 => "See Other", 304 => "Not Modified",
      307 => "Temporary Redirect", 308 => "Permanent Redirect", 400 => "Bad Request", 401 => "Unauthorized",
      403 => "Forbidden", 404 => "Not Found", 405 => "Method Not Allowed", 409 => "Conflict", 410 => "Gone",
      413 => "Content Too Large", 415 => "Unsupported Media Type", 422 => "Unprocessable Content",
      429 => "Too Many Requests", 431 => "Request Header Fields Too Large", 500 => "Internal Server Error",
      501 => "Not Implemented", 502 => "Bad Gateway", 503 => "Service Unavailable", 504 => "Gateway Timeout",
    }.freeze

    # The server's own decisions; a function may not take them for it.
    OURS = %w[connection keep-alive transfer-encoding proxy-connection].freeze

    # A request without its body.
    Head = Struct.new(:verb, :target, :minor, :fields, :length, :chunked, :keep, :expects, :request_id,
                      :deadline_ms, :prefix)

    module_function

    # Reads a head, its empty line left out.
    def parse_head(text)
      lines = text.split("\r\n", -1)
      found = REQUEST_LINE.match(lines.shift || "")
      raise bad_request_line(text) unless found

      head = Head.new(readable(found[1]), readable(found[2]), found[3].to_i, [])
      head.keep = head.minor == 1
      head.prefix = ""
      head.target = origin_form(head.verb, head.target) unless head.target.start_with?("/")
      lines.each { |line| field(head, line) }
      if head.chunked
        raise BadRequest, "both content-length and transfer-encoding are set, expected one" if head.length
        raise BadRequest, "transfer-encoding needs HTTP/1.1" if head.minor.zero?
      end
      head
    end

    def field(head, line)
      found = FIELD.match(line)
      raise BadRequest, "malformed header field, expected `name: value` on each line" unless found

      name = readable(found[1]).downcase
      value = readable(found[2].gsub(/\A[ \t]+|[ \t]+\z/n, ""))
      case name
      when "content-length" then length(head, value)
      when "transfer-encoding" then coding(head, value)
      when "connection" then connection(head, value)
      when "expect"
        raise BadRequest.new("unsupported expectation, expected `100-continue`", 417) unless value.casecmp?("100-continue")

        head.expects = head.minor == 1
      when "x-request-id" then head.request_id = value
      when "x-tidegate-deadline-ms"
        head.deadline_ms = value.to_i if DIGITS.match?(value)
        return
      when "x-tidegate-path-prefix"
        head.prefix = value.chomp("/")
        return
      else
        return if name.start_with?("x-tidegate-")
      end
      head.fields << [name, value]
    end

    # Bytes as text that everything else can work with: UTF-8 where they are, Latin-1 otherwise.
    def readable(bytes)
      text = bytes.dup.force_encoding(Encoding::UTF_8)
      text.valid_encoding? ? text : bytes.dup.force_encoding(Encoding::ISO_8859_1).encode(Encoding::UTF_8)
    end

    def bad_request_line(text)
      line = text.split("\r\n", 2).first.to_s
      if line.match?(%r{ HTTP/[0-9.]+\z}n) && !line.match?(%r{ HTTP/1\.[01]\z}n)
        BadRequest.new("unsupported protocol version, expected HTTP/1.1", 505)
      else
        BadRequest.new("malformed request line, expected `METHOD target HTTP/1.1`")
      end
    end

    def origin_form(verb, target)
      return target if target == "*" && verb == "OPTIONS"

      found = %r{\Ahttps?://[^/?#]*(.*)\z}ni.match(target)
      raise BadRequest, "malformed request target, expected a path that begins with `/`" unless found

      found[1].start_with?("/") ? found[1] : "/#{found[1]}"
    end

    def length(head, value)
      raise BadRequest, "content-length is set twice" if head.length
      raise BadRequest, "malformed content-length, expected decimal digits" unless DIGITS.match?(value)

      head.length = value.to_i
    end

    def coding(head, value)
      raise BadRequest, "transfer-encoding is set twice" if head.chunked
      raise BadRequest.new("unsupported transfer-encoding, expected `chunked`", 501) unless value.casecmp?("chunked")

      head.chunked = true
    end

    def connection(head, value)
      value.downcase.split(",").each do |option|
        case option.strip
        when "close" then head.keep = false
        when "keep-alive" then head.keep = true if head.minor.zero?
        end
      end
    end

    # A response field as a line of text; ArgumentError where it could forge another.
    def check_field(name, value)
      name = name.to_s
      value = value.to_s
      raise ArgumentError, "header name #{name.inspect} is not a token of letters, digits and dashes" unless NAME.match?(name.b)
      raise ArgumentError, "header #{name} has a line break or NUL in its value #{value.inspect}" if BAD_VALUE.match?(value.b)

      [name, value]
    end

    # A number from 200 to 599; ArgumentError otherwise.
    def check_status(status)
      number = Integer(status, exception: false)
      return number if number && (200..599).cover?(number)

      raise ArgumentError, "status #{status.inspect} is not a number from 200 to 599"
    end
  end

  # One connection to the server, between and during requests.
  class Connection
    attr_reader :io
    attr_accessor :buffer

    def initialize(io)
      @io = io
      @buffer = String.new(encoding: Encoding::BINARY)
    end

    # The next head, or nil when the connection ended between requests. Raises BadRequest.
    def next_head
      from = 0
      loop do
        @buffer.slice!(0, 2) while @buffer.start_with?("\r\n")
        at = @buffer.index("\r\n\r\n", from)
        raise BadRequest.new("the request head is over #{Http1::HEAD_MAX} bytes", 431) if (at || @buffer.bytesize) > Http1::HEAD_MAX

        if at
          text = @buffer.slice!(0, at + 4)
          return Http1.parse_head(text[0, at])
        end
        from = [@buffer.bytesize - 3, 0].max
        return nil unless fill
      end
    end

    # Takes more into the buffer; false at the end.
    def fill
      @buffer << @io.readpartial(Http1::RECV)
      true
    rescue EOFError, SystemCallError, IOError
      false
    end

    # Some bytes, at most `size`; PeerGone at the end.
    def take(size)
      raise PeerGone, "the request ended before its body was complete" if @buffer.empty? && !fill

      @buffer.slice!(0, size)
    end

    # A line without its end, at most `max` bytes long.
    def line(max, what)
      from = 0
      loop do
        at = @buffer.index("\r\n", from)
        raise BadRequest, "#{what} is too long" if (at || @buffer.bytesize) > max

        if at
          line = @buffer.slice!(0, at + 2)
          return line[0, at]
        end
        from = [@buffer.bytesize - 1, 0].max
        raise PeerGone, "the request ended before its body was complete" unless fill
      end
    end

    def write(data)
      @io.write(data)
    rescue SystemCallError, IOError => error
      raise PeerGone, error.message
    end

    def close
      @io.close
    rescue SystemCallError, IOError
      nil
    end
  end

  # The body of one request, read on demand.
  class Body
    def initialize(connection, head, limit)
      @connection = connection
      @chunked = head.chunked
      @left = @chunked ? 0 : head.length || 0
      @expects = head.expects
      @limit = limit
      @seen = 0
      @ended = !@chunked && @left.zero?
      @started = false
    end

    attr_reader :ended

    # At least one byte and at most about `size`; nil at the end. Raises BodyTooLarge, BadRequest, PeerGone.
    def read_some(size = Http1::RECV)
      return nil if @ended

      too_large if @left > @limit
      if @expects
        @expects = false
        @connection.write("HTTP/1.1 100 Continue\r\n\r\n")
      end
      next_chunk if @chunked && @left.zero?
      return nil if @ended

      data = @connection.take([size, @left].min)
      @left -= data.bytesize
      @seen += data.bytesize
      too_large if @seen > @limit
      if @left.zero?
        @chunked ? chunk_end : @ended = true
      end
      data
    end

    # Everything not read yet.
    def read_all
      all = String.new(encoding: Encoding::BINARY)
      while (data = read_some)
        all << data
      end
      all
    end

    # Throws away what nobody read; whether the connection can go on.
    def skip
      return true if @ended
      return false if @expects || @chunked || @left > Http1::SKIP_MAX

      @limit = Float::INFINITY
      nil while read_some
      true
    rescue PeerGone, BadRequest
      false
    end

    private

    def too_large
      raise BodyTooLarge, "the body is over the limit of #{@limit} bytes"
    end

    def next_chunk
      size = Http1::SIZE.match(@connection.line(Http1::SIZE_LINE_MAX, "a chunk's size line"))
      raise BadRequest, "malformed chunk size, expected hexadecimal digits" unless size

      @left = size[1].to_i(16)
      trailers if @left.zero?
    end

    def chunk_end
      rest = @connection.line(2, "a chunk")
      raise BadRequest, "malformed chunk, expected CRLF after its data" unless rest.empty?
    end

    def trailers
      seen = 0
      until (line = @connection.line(Http1::TRAILERS_MAX - seen, "the trailers")).empty?
        seen += line.bytesize + 2
      end
      @ended = true
    end
  end

  # Writes the answer to one request, and knows how far it has come.
  class Exchange
    attr_reader :head, :body, :keep, :started

    def initialize(connection, head, body)
      @connection = connection
      @head = head
      @body = body
      @started = false
      @ended = false
      @keep = false
    end

    # A whole answer at once. `fields` are pairs, `body` a String.
    def respond(status, fields, body, outcome = nil)
      text = compose(status, fields, body.bytesize, outcome)
      @started = true
      text << body.b unless @mode == :none
      @connection.write(text)
      finish_log
      @ended = true
    end

    # The head of an answer whose body follows by `write` and `finish`.
    def start(status, fields, length = nil)
      text = compose(status, fields, length, nil)
      @started = true
      @left = length
      @connection.write(text)
    end

    def write(data)
      return if data.empty? || @mode == :none

      data = data.b
      case @mode
      when :chunked then @connection.write("#{data.bytesize.to_s(16)}\r\n".b << data << "\r\n")
      when :length
        raise ArgumentError, "the body is longer than its content-length" if data.bytesize > @left

        @left -= data.bytesize
        @connection.write(data)
      else @connection.write(data)
      end
    end

    def finish
      raise ArgumentError, "the body is #{@left} bytes shorter than its content-length" if @mode == :length && @left.positive?

      finish_log
      @connection.write("0\r\n\r\n") if @mode == :chunked
      @ended = true
    end

    # Whether the connection can take another request.
    def reusable?
      @ended && @keep && @body.skip
    end

    private

    # What was printed is in the log before the call is over.
    def finish_log
      $stdout.flush
      $stderr.flush
    end

    def compose(status, fields, length, outcome)
      text = +"HTTP/1.1 #{status} #{Http1::REASONS[status] || "Status"}\r\n"
      @keep = @head.keep
      fields.each do |name, value|
        name, value = Http1.check_field(name, value)
        low = name.downcase
        if low == "content-length"
          # The true length is better knowledge, except where no body shows it.
          length = Integer(value, 10) if length.nil? || (@head.verb == "HEAD" && length.zero?)
          next
        end
        next if Http1::OURS.include?(low) || low.start_with?("x-tidegate-")

        text << "#{name}: #{value}\r\n"
      end
      frame(text, status, length)
      text << "x-tidegate-outcome: #{outcome}\r\n" if outcome
      if !@keep
        text << "connection: close\r\n"
      elsif @head.minor.zero?
        text << "connection: keep-alive\r\n"
      end
      (text << "\r\n").b
    end

    def frame(text, status, length)
      if [204, 304].include?(status)
        @mode = :none
      elsif length
        @mode = :length
        @left = length
        text << "content-length: #{length}\r\n"
      elsif @head.minor == 1
        @mode = :chunked
        text << "transfer-encoding: chunked\r\n"
      else
        @mode = :until_close
        @keep = false
      end
      @mode = :none if @head.verb == "HEAD"
    end
  end
end
