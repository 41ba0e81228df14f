# frozen_string_literal: true

require "minitest/autorun"

require_relative "handler"

Event = Struct.new(:method, :query, :text)

class LedgerTest < Minitest::Test
  SAMPLE = File.read(File.join(__dir__, "request/statement.csv"), encoding: "UTF-8")

  def call(text, query: {}, method: "POST")
    handler(Event.new(method, query, text), nil)
  end

  def refused(status, part, *given, **named)
    answer = call(*given, **named)
    assert_equal status, answer["statusCode"]
    assert_includes JSON.parse(answer["body"])["error"], part
  end

  def test_the_months_of_the_sample
    answer = call(SAMPLE)
    assert_equal(%w[2026-10 2026-11], answer["totals"].map { |total| total["month"] })
    assert_equal(
      { "month" => "2026-10", "in" => "2400.00", "out" => "-912.30", "left" => "1487.70", "bookings" => 4 },
      answer["totals"][0],
    )
    assert_equal({ "in" => "2400.00", "out" => "-1068.10", "left" => "1331.90", "bookings" => 7 }, answer["all"])
  end

  def test_categories
    answer = call(SAMPLE, query: { "by" => "category" })
    assert_equal(%w[boat harbour home pay], answer["totals"].map { |total| total["category"] })
    assert_equal "-0.30", answer["totals"][1]["left"]
  end

  def test_cents_do_not_get_lost
    rows = ["date,text,category,amount"] + (["2026-01-01,x,y,0.10"] * 3) + ["2026-01-01,x,y,-0.30"]
    assert_equal "0.00", call(rows.join("\n"))["all"]["left"]
  end

  def test_a_byte_order_mark_is_no_column
    assert_equal 7, call("\uFEFF#{SAMPLE}")["all"]["bookings"]
  end

  def test_mistakes_have_their_line
    head = "date,text,category,amount\n"
    refused 422, "line 3: the amount is \"1,5\"", "#{head}2026-01-01,a,b,1\n2026-01-01,a,b,\"1,5\"\n"
    refused 422, "line 2: the date is \"2026-02-30\"", "#{head}2026-02-30,a,b,1\n"
    refused 422, "line 2: the date is \"\"", "#{head},a,b,1\n"
    refused 422, "lacks category, amount", "date,text\n2026-01-01,a\n"
    refused 422, "no bookings", ""
    refused 422, "line 2", "#{head}2026-01-01,\"a,b,1\n"
  end

  def test_other_questions_are_refused
    refused 400, "expected month or category", SAMPLE, query: { "by" => "year" }
    refused 405, "by POST", "", method: "GET"
  end
end
