# frozen_string_literal: true

# What a function may use of the platform. A handler needs none of it: plain values in and out are enough.

module Tidegate
  # The body of the request is not JSON; left to propagate, it answers 400.
  class InvalidJson < StandardError; end

  # The body is over the function's limit; left to propagate, it answers 413.
  class BodyTooLarge < StandardError; end

  # Read-only header fields, looked up without regard to case.
  class Headers
    include Enumerable

    # `fields`: pairs of lower-case name and value in order of arrival.
    def initialize(fields)
      @fields = fields
    end

    # The value of `name`, several joined by a comma; nil if there is none.
    def [](name)
      values = all(name)
      # Cookies are the one list that a comma would damage.
      values.empty? ? nil : values.join(name.to_s.casecmp?("cookie") ? "; " : ", ")
    end

    def fetch(name, *default)
      value = self[name]
      return value unless value.nil?
      return yield(name) if block_given?
      return default.first unless default.empty?

      raise KeyError, "no header #{name}"
    end

    # Every value of `name`, in order.
    def all(name)
      wanted = name.to_s.downcase
      @fields.filter_map { |key, value| value if key == wanted }
    end

    def key?(name)
      wanted = name.to_s.downcase
      @fields.any? { |key, _| key == wanted }
    end
    alias include? key?

    def keys
      @fields.map(&:first).uniq
    end

    def each
      return to_enum unless block_given?

      keys.each { |key| yield key, self[key] }
    end

    def to_h
      keys.to_h { |key| [key, self[key]] }
    end
  end

  # One request, as a handler sees it.
  class Event
    attr_reader :method

    def initialize(method, target, fields, body)
      @method = method
      @target = target
      @fields = fields
      @source = body
    end

    # The path as sent, percent escapes kept, without the query.
    def raw_path
      raw = @target.split("?", 2).first
      raw.nil? || raw.empty? ? "/" : raw
    end

    # The path after the function's prefix, escapes decoded; begins with "/".
    def path
      Tidegate.unescape(raw_path, plus: false)
    end

    # What follows the first "?", as sent.
    def query_string
      @target.split("?", 2)[1] || ""
    end

    # The query as a Hash of strings; of repeated names the last wins.
    def query
      pairs.to_h
    end

    # Every value of the query parameter `name`, in order.
    def query_list(name)
      pairs.filter_map { |key, value| value if key == name.to_s }
    end

    def headers
      @headers ||= Headers.new(@fields)
    end

    # The media type without parameters, lower case; "" if none was sent.
    def content_type
      (headers["content-type"] || "").split(";", 2).first.to_s.strip.downcase
    end

    # The whole body as binary String, read at first use. Raises BodyTooLarge over the function's limit.
    def body
      @body ||= @source.read_all
    end

    # The body as an IO-like object that reads as it arrives. Use it instead of `body`.
    def stream
      @stream ||= Stream.new(@source)
    end

    # The body decoded by the charset of its content type, UTF-8 by default.
    def text
      name = headers["content-type"].to_s[/;\s*charset=["']?([^"';\s]+)/i, 1] || "UTF-8"
      # The one name that the world uses and Ruby does not know.
      name = "ISO-8859-1" if name.casecmp?("latin1")
      encoding = begin
        Encoding.find(name)
      rescue ArgumentError
        Encoding::UTF_8
      end
      body.dup.force_encoding(encoding).encode(Encoding::UTF_8, invalid: :replace, undef: :replace).scrub
    end

    # The body read as JSON; raises InvalidJson saying what is wrong.
    def json(**options)
      require "json"
      raise InvalidJson, "the body is not valid JSON: it is empty" if body.empty?

      utf8 = body.dup.force_encoding(Encoding::UTF_8)
      raise InvalidJson, "the body is not valid JSON: it is not UTF-8" unless utf8.valid_encoding?

      begin
        JSON.parse(utf8, **options)
      rescue JSON::ParserError => error
        raise InvalidJson, "the body is not valid JSON: #{error.message.lines.first.to_s.strip[0, 200].scrub}"
      end
    end

    def inspect
      "#<Tidegate::Event #{@method} #{@target}>"
    end

    private

    def pairs
      @pairs ||= query_string.split("&").reject(&:empty?).map do |pair|
        name, value = pair.split("=", 2)
        [Tidegate.unescape(name || ""), Tidegate.unescape(value || "")]
      end
    end
  end

  # A request's body as it arrives.
  class Stream
    include Enumerable

    def initialize(source)
      @source = source
      @kept = String.new(encoding: Encoding::BINARY)
    end

    # As IO#read: everything, or up to `size` bytes and nil at the end.
    def read(size = nil, into = nil)
      if size.nil?
        data = @kept + @source.read_all
        @kept.clear
      else
        while @kept.bytesize < size && (more = @source.read_some)
          @kept << more
        end
        data = @kept.slice!(0, size)
        data = nil if data.empty? && size.positive?
      end
      return data if into.nil?

      into.replace(data || "")
      data && into
    end

    # What is there, up to `size` bytes; EOFError at the end.
    def readpartial(size)
      @kept << (@source.read_some(size) || raise(EOFError, "end of file reached")) if @kept.empty?
      @kept.slice!(0, size)
    end

    # The next line with its end; nil at the end of the body.
    def gets
      until (at = @kept.index("\n"))
        more = @source.read_some
        return @kept.empty? ? nil : @kept.slice!(0, @kept.bytesize) unless more

        @kept << more
      end
      @kept.slice!(0, at + 1)
    end

    # Line by line.
    def each
      return to_enum unless block_given?

      while (line = gets)
        yield line
      end
    end

    def close; end
  end

  # The circumstances of one call.
  class Context
    attr_reader :request_id, :function_name, :namespace, :revision, :memory_limit_bytes

    # `deadline`: a Time or nil.
    attr_reader :deadline

    def initialize(request_id, deadline, config)
      @request_id = request_id
      @deadline = deadline
      @function_name = config.function
      @namespace = config.namespace
      @revision = config.revision
      @memory_limit_bytes = config.memory
    end

    # Milliseconds until the deadline, never below 0; nil without one.
    def remaining_ms
      @deadline && [((@deadline - Time.now) * 1000).to_i, 0].max
    end

    # A Logger that writes to standard error, level INFO.
    def log
      @@log ||= begin
        require "logger"
        logger = Logger.new($stderr, level: Logger::INFO, progname: @function_name)
        logger.formatter = ->(severity, _time, _name, message) { "#{severity} #{message}\n" }
        logger
      end
    end
  end

  # An answer with a status and header fields of its own. `headers`: a Hash (an Array as value repeats the field) or
  # pairs.
  class Response
    attr_reader :body, :status, :headers

    def initialize(body = nil, status = 200, headers = nil)
      @body = body
      @status = status
      @headers = headers
    end

    # Reads `{statusCode, headers, multiValueHeaders, cookies, body, isBase64Encoded}`; keys are strings or symbols.
    def self.from_proxy(result)
      get = ->(name) { result.fetch(name) { result[name.to_sym] } }
      body = get["body"]
      body = body.unpack1("m0") if get["isBase64Encoded"] && body
      pairs = Tidegate.pairs(get["headers"]) + Tidegate.pairs(get["multiValueHeaders"])
      pairs += (get["cookies"] || []).map { |cookie| ["set-cookie", cookie] }
      new(body, get["statusCode"], pairs)
    end
  end

  module_function

  # Header fields as pairs.
  def pairs(headers)
    (headers || []).flat_map do |name, value|
      value.is_a?(Array) ? value.map { |each| [name, each] } : [[name, value]]
    end
  end

  # Percent escapes decoded, as UTF-8 where it is.
  def unescape(text, plus: true)
    text = text.tr("+", " ") if plus
    return text.dup.force_encoding(Encoding::UTF_8).scrub unless text.include?("%")

    text.b.gsub(/%([0-9A-Fa-f]{2})/) { $1.hex.chr }.force_encoding(Encoding::UTF_8).scrub
  end
end
