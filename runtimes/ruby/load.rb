# frozen_string_literal: true

# Loading a function: its file, and which kind of callable it offers.

module Tidegate
  # The file is fine Ruby, but offers nothing that can be called.
  class LoadFailed < StandardError; end

  # RubyGems takes a third of the interpreter's start, and many functions need none of it: it is loaded when a `require`
  # finds nothing without it, or something names `Gem`.
  module Gems
    @pending = true

    def self.load
      return false unless @pending

      @pending = false
      # The name that brought us here, or would bring us here again.
      Object.send(:remove_const, :Gem) if Object.autoload?(:Gem)
      Kernel.module_eval do
        alias_method :require, :require_without_gems
        private :require
      end
      require "rubygems"
      # Gems from a repository are files beside those from a registry, and no index names them.
      Dir.glob("#{ENV["GEM_PATH"].to_s.split(":").first}/bundler/gems/*/lib").each { |lib| $LOAD_PATH << lib }
      true
    end
  end

  module Load
    module_function

    # Loads the entry and answers something that is called with an Exchange.
    def load(config)
      entry = config.entry
      folder = File.dirname(entry)
      $LOAD_PATH.unshift(folder)
      $PROGRAM_NAME = entry
      name = config.handler
      if name&.match?(/\A[^:]+:[^:]/)
        file, name = name.split(":", 2)
        entry = File.join(folder, "#{file.delete_suffix(".rb")}.rb")
      end
      return RackApp.new(rack_up(entry), config) if File.extname(entry) == ".ru"

      require entry
      name ? named(name, entry, config) : found(entry, config)
    end

    def rack_up(path)
      begin
        require "rack"
      rescue LoadError
        return Builder.load(path)
      end
      app, = Rack::Builder.parse_file(path)
      app
    end

    # `run`, `Shop.run`, `Shop::Orders.new` is not meant: a constant, or a method of one, or of the file.
    def named(name, entry, config)
      receiver, method = name.rpartition(".").values_at(0, 2)
      if receiver.empty?
        return handler(main.method(name)) if main_method?(name)

        value = constant(name)
        raise LoadFailed, "has no `#{name}`#{suggest(entry)}" if value.nil?

        return callable(value, name, config)
      end
      object = constant(receiver)
      raise LoadFailed, "has no `#{receiver}`#{suggest(entry)}" if object.nil?
      return handler(object.method(method)) if object.respond_to?(method)
      return handler(object.new.method(method)) if object.is_a?(Class) && object.method_defined?(method)

      raise LoadFailed, "`#{receiver}` has no method `#{method}`"
    end

    def found(entry, config)
      return handler(main.method("handler")) if main_method?("handler")

      %w[Handler HANDLER].each do |name|
        value = constant(name)
        return callable(value, name, config) if value
      end
      %w[App APP Application].each do |name|
        value = constant(name)
        return RackApp.new(app(value, name), config) if value
      end
      return RackApp.new(main.send(:app), config) if main_method?("app")
      return RackApp.new(::Sinatra::Application, config) if defined?(::Sinatra::Application)
      return RackApp.new(::Rails.application, config) if defined?(::Rails) && ::Rails.respond_to?(:application)

      raise LoadFailed, "defines neither `handler` nor an app, expected `def handler(event, context)`, " \
                        "a `Handler` or a Rack `App`#{suggest(entry)}"
    end

    # A constant's value: something to be called with (event, context), or a Rack app by its one parameter.
    def callable(value, name, config)
      %w[handler handle].each { |method| return handler(value.method(method)) if value.respond_to?(method) }
      if value.respond_to?(:call)
        method = value.respond_to?(:arity) ? value : value.method(:call)
        return RackApp.new(value, config) if %w[App APP Application].include?(name) || rack?(method)

        return handler(method)
      end
      if value.is_a?(Class)
        %i[handler handle call].each do |each|
          return handler(value.new.method(each)) if value.method_defined?(each)
        end
      end
      raise LoadFailed, "`#{name}` is a #{value.class} that cannot be called, expected a method `call` or `handle`"
    end

    def rack?(method)
      method.parameters.map(&:last) == [:env]
    end

    def app(value, name)
      return value if value.respond_to?(:call)
      return value.new if value.is_a?(Class) && value.method_defined?(:call)

      raise LoadFailed, "`#{name}` is a #{value.class} without `call`, expected a Rack app"
    end

    # A method or a Proc by the number of its parameters: (event, context), (event) or none.
    def handler(method)
      needed = method.parameters.count { |kind, _| kind == :req }
      most = method.parameters.count { |kind, _| %i[req opt].include?(kind) }
      most = 2 if method.parameters.any? { |kind, _| kind == :rest }
      raise LoadFailed, "the handler takes #{needed} parameters, expected (event, context), (event) or none" if needed > 2

      HandlerApp.new(method, [most, 2].min)
    end

    def main
      TOPLEVEL_BINDING.receiver
    end

    def main_method?(name)
      main.singleton_class.method_defined?(name, false) || Object.private_method_defined?(name, false) ||
        Object.method_defined?(name, false)
    end

    def constant(name)
      name.split("::").inject(Object) { |scope, part| scope.const_get(part, false) }
    rescue NameError
      nil
    end

    def suggest(_entry)
      own = (Object.private_instance_methods(false) - BEFORE).first(8)
      own.empty? ? "" : "; it has the methods #{own.join(", ")}"
    end
  end

  BEFORE = Object.private_instance_methods(false).freeze
  private_constant :BEFORE

  # Answers exchanges by a handler.
  class HandlerApp
    attr_writer :config

    def initialize(method, parameters)
      @method = method
      @parameters = parameters
    end

    def call(exchange)
      head = exchange.head
      event = Event.new(head.verb, head.target, head.fields, exchange.body)
      result = case @parameters
               when 0 then @method.call
               when 1 then @method.call(event)
               else
                 ms = head.deadline_ms || @config.timeout_ms
                 deadline = ms && Time.now + (ms / 1000.0)
                 @method.call(event, Context.new(head.request_id, deadline, @config))
               end
      Answers.send(exchange, result)
    end
  end
end

# `require` as it is without gems, until something is not found.
module Kernel
  alias require_without_gems require

  def require(name)
    require_without_gems(name)
  rescue LoadError => error
    # Only what this very call asked for may be a gem's.
    raise unless error.path == name && Tidegate::Gems.load

    require(name)
  end
  private :require
end
