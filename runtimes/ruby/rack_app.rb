# frozen_string_literal: true

# Rack over an exchange, for Rack 2 and 3 alike, without the gem.

module Tidegate
  class RackApp
    def initialize(app, config)
      @app = app
      @config = config
    end

    def call(exchange)
      status, headers, body = @app.call(environ(exchange))
      status = Http1.check_status(status)
      fields = headers.reject { |name, _| name.start_with?("rack.") }.flat_map { |name, value| lines(name, value) }
      send(exchange, status, fields, body)
    ensure
      body.close if body.respond_to?(:close)
    end

    private

    # Rack 2 joins repeated fields by line feeds, Rack 3 keeps them in an Array.
    def lines(name, value)
      values = value.is_a?(Array) ? value : value.to_s.split("\n", -1)
      values = [""] if values.empty?
      values.map { |each| [name, each] }
    end

    def send(exchange, status, fields, body)
      if body.respond_to?(:to_ary) || body.is_a?(Array)
        parts = body.to_ary
        return exchange.respond(status, fields, parts.map(&:b).join)
      end
      return stream(exchange, status, fields, body) unless body.respond_to?(:each)

      body.each do |piece|
        exchange.start(status, fields) unless exchange.started
        exchange.write(piece)
      end
      exchange.start(status, fields, 0) unless exchange.started
      exchange.finish
    end

    # A body of Rack 3 that is called with what it writes to.
    def stream(exchange, status, fields, body)
      exchange.start(status, fields)
      out = Out.new(exchange)
      body.call(out)
      out.close
    end

    # The writing half of a stream.
    class Out
      def initialize(exchange)
        @exchange = exchange
        @open = true
      end

      def write(*data)
        data.each { |each| @exchange.write(each.to_s) }
        data.sum { |each| each.to_s.bytesize }
      end
      alias << write

      def read(*)
        nil
      end

      def flush; end

      def close(*)
        @exchange.finish if @open
        @open = false
      end
      alias close_write close

      def closed?
        !@open
      end
    end

    PLAIN = { "content-type" => "CONTENT_TYPE", "content-length" => "CONTENT_LENGTH" }.freeze
    private_constant :PLAIN

    def environ(exchange)
      require "stringio"
      head = exchange.head
      path, query = head.target.split("?", 2)
      env = {
        "REQUEST_METHOD" => head.verb,
        "SCRIPT_NAME" => head.prefix,
        "PATH_INFO" => path,
        "QUERY_STRING" => query || "",
        "SERVER_NAME" => "localhost",
        "SERVER_PORT" => "80",
        "SERVER_PROTOCOL" => "HTTP/1.#{head.minor}",
        "SERVER_SOFTWARE" => "tidegate",
        "rack.version" => [1, 6],
        "rack.url_scheme" => "http",
        "rack.input" => StringIO.new(exchange.body.read_all),
        "rack.errors" => $stderr,
        "rack.multithread" => @config.concurrency > 1,
        "rack.multiprocess" => true,
        "rack.run_once" => false,
        "rack.hijack?" => false,
      }
      head.fields.each do |name, value|
        # `x_user` would be the same key as `x-user`: a way to forge what a proxy sets.
        next if name.include?("_")

        key = PLAIN[name] || "HTTP_#{name.upcase.tr("-", "_")}"
        env[key] = env.key?(key) && key.start_with?("HTTP_") ? "#{env[key]}#{name == "cookie" ? "; " : ", "}#{value}" : value
      end
      forwarded(env)
      env
    end

    def forwarded(env)
      if env["HTTP_X_FORWARDED_PROTO"].to_s.casecmp?("https")
        env["rack.url_scheme"] = "https"
        env["HTTPS"] = "on"
        env["SERVER_PORT"] = "443"
      end
      if (host = env["HTTP_HOST"])
        name, port = host.match(/\A(.*?)(?::([0-9]+))?\z/).captures
        env["SERVER_NAME"] = name
        env["SERVER_PORT"] = port if port
      end
      from = env["HTTP_X_FORWARDED_FOR"]
      env["REMOTE_ADDR"] = from ? from.split(",").first.strip : "127.0.0.1"
    end
  end

  # As much of `Rack::Builder` as a config.ru needs when no gem brings the whole.
  class Builder
    def self.load(path)
      builder = new
      builder.instance_eval(File.read(path), path)
      builder.to_app
    end

    def initialize
      @uses = []
      @maps = {}
    end

    def use(middleware, *arguments, &block)
      @uses << ->(app) { middleware.new(app, *arguments, &block) }
    end

    def run(app = nil, &block)
      @run = app || block
    end

    def map(path, &block)
      builder = Builder.new
      builder.instance_eval(&block)
      @maps[path.chomp("/")] = builder.to_app
    end

    def warmup; end

    def to_app
      app = @maps.empty? ? @run : mapped(@run)
      raise LoadFailed, "config.ru has no `run`" unless app

      @uses.reverse.inject(app) { |inner, wrap| wrap.call(inner) }
    end

    private

    def mapped(otherwise)
      maps = @maps.sort_by { |path, _| -path.length }
      lambda do |env|
        info = env["PATH_INFO"]
        path, app = maps.find { |prefix, _| info == prefix || info.start_with?("#{prefix}/") }
        if app
          script = env["SCRIPT_NAME"]
          app.call(env.merge("SCRIPT_NAME" => script + path, "PATH_INFO" => info.delete_prefix(path)))
        elsif otherwise
          otherwise.call(env)
        else
          [404, { "content-type" => "text/plain" }, ["Not Found: #{info}"]]
        end
      end
    end
  end
end
