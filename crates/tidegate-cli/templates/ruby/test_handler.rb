# frozen_string_literal: true

require "logger"
require "minitest/autorun"

require_relative "handler"

Event = Struct.new(:method, :query, :text)
Context = Struct.new(:log)

class HandlerTest < Minitest::Test
  CONTEXT = Context.new(Logger.new(nil))

  def call(method: "GET", query: {}, text: "")
    handler(Event.new(method, query, text), CONTEXT)
  end

  def test_greets_by_name
    assert_equal({ "hello" => "tide" }, call(method: "POST", text: '{"name":"tide"}'))
    assert_equal({ "hello" => "gate" }, call(query: { "name" => "gate" }))
    assert_equal({ "hello" => "world" }, call)
  end

  def test_refuses_what_is_not_json
    assert_equal 400, call(method: "POST", text: "{")["statusCode"]
  end
end
