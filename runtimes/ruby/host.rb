# frozen_string_literal: true

# The Ruby language host: loads one function and serves it over HTTP/1.1 on 127.0.0.1:$PORT.
#
# One thread waits for all connections, and a request runs where it is noticed: at concurrency 1 on the main thread, as
# code that keeps things by thread expects, above it in as many threads as there may be requests at once. The server keeps
# its connections, so most of them wait most of the time and must not cost a thread each.
#
# What cannot be loaded ends this process with code 1 and one line on standard error that says where and why; that line
# is what a deploy shows.

module Tidegate
  HERE = "#{__dir__}/"
end

require "socket"
require_relative "http1"
require_relative "tidegate"
require_relative "answers"
require_relative "rack_app"
require_relative "load"

module Tidegate
  # What the platform says about the function.
  class Config
    attr_reader :entry, :handler, :concurrency, :max_body, :memory, :timeout_ms, :function, :namespace, :revision

    def initialize(env)
      @entry = env.fetch("TIDEGATE_ENTRY")
      @handler = env["TIDEGATE_HANDLER"]
      @concurrency = [env.fetch("TIDEGATE_CONCURRENCY", "1").to_i, 1].max
      @max_body = env.fetch("TIDEGATE_MAX_BODY", (16 << 20).to_s).to_i
      @memory = env["TIDEGATE_MEMORY"]&.to_i
      @timeout_ms = env["TIDEGATE_TIMEOUT_MS"]&.to_i
      @function = env["TIDEGATE_FUNCTION"]
      @namespace = env["TIDEGATE_NAMESPACE"]
      @revision = env["TIDEGATE_REVISION"]
    end
  end

  # Serves connections.
  class Server
    # Connections at most. The server keeps one a worker thread and slot; this only bounds what a fault could cost.
    CONNECTIONS_MAX = 1024
    # Connections that may wait to be accepted.
    BACKLOG = 1024

    def initialize(app, config)
      @app = app
      @config = config
      @idle = {}
      @busy = 0
      @draining = false
      @lock = Mutex.new
      @wake, @waker = IO.pipe
    end

    # Serves until told to end; comes back when what was in flight is answered.
    def run(port)
      @listener = Socket.new(:INET, :STREAM)
      @listener.setsockopt(:SOCKET, :REUSEADDR, true)
      # Workers exist before anyone can call, and whoever connects knows that the code is loaded.
      start_workers if @config.concurrency > 1
      @listener.bind(Addrinfo.tcp("127.0.0.1", port))
      @listener.listen(BACKLOG)
      loop do
        wait
        return if @draining && @lock.synchronize { @busy.zero? }
      end
    end

    # From a signal handler, where no lock can be taken.
    def drain
      @draining = true
      @waker.write_nonblock("d", exception: false)
    end

    private

    def wait
      sources = @draining ? [@wake] : [@wake, @listener]
      readable, = IO.select(sources + @lock.synchronize { @idle.keys })
      readable.each do |io|
        if io.equal?(@wake) then @wake.read_nonblock(4096, exception: false)
        elsif io.equal?(@listener) then accept
        else take(io)
        end
      end
    end

    def accept
      io, = @listener.accept_nonblock(exception: false)
      return unless io.is_a?(Socket)

      io.setsockopt(:TCP, :NODELAY, true)
      @lock.synchronize do
        if @idle.size + @busy < CONNECTIONS_MAX
          @idle[io] = Connection.new(io)
        else
          io.close
        end
      end
    rescue SystemCallError
      nil
    end

    def take(io)
      connection = @lock.synchronize do
        @busy += 1
        @idle.delete(io)
      end
      if @queue
        @queue << connection
      else
        give_back(connection, serve(connection))
      end
    end

    def start_workers
      @queue = Thread::Queue.new
      @config.concurrency.times do
        Thread.new do
          while (connection = @queue.pop)
            keep = serve(connection)
            give_back(connection, keep)
            @waker.write_nonblock("i", exception: false)
          end
        end
      end
    end

    def give_back(connection, keep)
      keep &&= !@draining
      connection.close unless keep
      @lock.synchronize do
        @busy -= 1
        @idle[connection.io] = connection if keep
      end
    end

    # Answers what has arrived on a connection; whether it may go on.
    def serve(connection)
      loop do
        head = connection.next_head
        return false if head.nil?
        return false unless answer(connection, head)
        return true if connection.buffer.empty?
      end
    rescue BadRequest => failure
      refuse(connection, failure)
      false
    rescue PeerGone
      false
    end

    def answer(connection, head)
      exchange = Exchange.new(connection, head, Body.new(connection, head, @config.max_body))
      begin
        @app.call(exchange)
      rescue Exception => failure # rubocop:disable Lint/RescueException -- `exit` in a handler ends the call, not us.
        Answers.fail(exchange, failure)
      end
      exchange.reusable?
    end

    # The answer to a request that cannot be understood; the connection ends after it.
    def refuse(connection, failure)
      head = Http1::Head.new("GET", "/", 1, [])
      exchange = Exchange.new(connection, head, nil)
      Answers.error(exchange, failure.status, failure.message, "platform")
    end
  end

  # The reason that a function cannot be loaded, as one line: where, what.
  def self.explain(failure, entry)
    name = File.basename(entry)
    message = Answers.message(failure)
    folder = "#{File.dirname(entry)}/"
    case failure
    when SyntaxError
      # Ruby names the file and line itself, and goes on for several lines.
      message.lines.map(&:strip).find { |line| line.include?(":") }.to_s.delete_prefix(folder)
    when LoadFailed
      "#{name} #{message}"
    else
      at = (failure.backtrace || []).find { |frame| frame.start_with?(folder) }
      place = at ? at.delete_prefix(folder)[/\A[^:]*:\d+/] : name
      hint = failure.is_a?(LoadError) && failure.path ? "; name its gem in the Gemfile" : ""
      "#{place}: #{message.lines.first.to_s.strip} (#{failure.class})#{hint}"
    end
  end

  def self.main
    config = Config.new(ENV)
    port = Integer(ENV.fetch("PORT"))
    # The host's own settings are not the function's.
    ENV.delete_if { |name, _| %w[TIDEGATE_ENTRY TIDEGATE_HANDLER TIDEGATE_MAX_BODY].include?(name) }
    $stdout.sync = $stderr.sync = true
    Object.autoload(:Gem, "#{HERE}gems.rb")
    begin
      app = Load.load(config)
    rescue Exception => failure # rubocop:disable Lint/RescueException -- a SyntaxError is no StandardError.
      trace = Answers.trace(failure)
      $stderr.write(trace) unless failure.is_a?(LoadFailed)
      $stderr.puts(explain(failure, config.entry))
      exit!(1)
    end
    app.config = config if app.is_a?(HandlerApp)
    server = Server.new(app, config)
    trap("TERM") { server.drain }
    server.run(port)
    # `at_exit` blocks are the function's way to say goodbye; one of a test framework or a web framework would start it.
    exit!(0)
  end
end

Tidegate.main if $PROGRAM_NAME == __FILE__
