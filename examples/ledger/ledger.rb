# frozen_string_literal: true

require "bigdecimal"
require "bigdecimal/util"
require "csv"
require "date"
require "json"

# Bookings, and what they come to. Amounts are decimal all the way: a cent that is lost to binary fractions would be missed.
class Ledger
  # The input cannot be taken for a statement; the message says where.
  class Unreadable < StandardError; end

  BY = %w[month category].freeze
  COLUMNS = %w[date text category amount].freeze

  Booking = Struct.new(:month, :category, :amount)

  def self.read(text)
    lines = CSV.new(text.delete_prefix("\uFEFF"), headers: true, skip_blanks: true)
    bookings = lines.each.map do |row|
      check_columns(row.headers)
      booking(row, lines.lineno)
    end
    raise Unreadable, "there are no bookings; expected CSV with the columns #{COLUMNS.join(', ')}" if bookings.empty?

    new(bookings)
  rescue CSV::MalformedCSVError => error
    raise Unreadable, error.message
  end

  def self.check_columns(headers)
    missing = COLUMNS - headers
    raise Unreadable, "the first line lacks #{missing.join(', ')}" unless missing.empty?
  end

  def self.booking(row, line)
    date = Date.iso8601(row["date"])
    amount = row["amount"].to_s
    unless amount.match?(/\A-?\d{1,12}(\.\d{1,2})?\z/)
      raise Unreadable, "line #{line}: the amount is #{amount[0, 20].inspect}; expected one such as -12.50"
    end

    Booking.new(date.strftime("%Y-%m"), row["category"].to_s, amount.to_d)
  rescue Date::Error, TypeError
    raise Unreadable, "line #{line}: the date is #{row['date'].to_s[0, 20].inspect}; expected one such as 2026-11-23"
  end
  private_class_method :check_columns, :booking

  def initialize(bookings)
    @bookings = bookings
  end

  # Totals of each month or category, and of all together; amounts are text with two digits behind the point.
  def totals(by)
    groups = @bookings.group_by { |booking| booking[by] }
    {
      "by" => by,
      "totals" => groups.sort.map { |name, bookings| { by => name, **sums(bookings) } },
      "all" => sums(@bookings),
    }
  end

  private

  def sums(bookings)
    amounts = bookings.map(&:amount)
    spent, earned = amounts.partition(&:negative?)
    { "in" => money(earned.sum), "out" => money(spent.sum), "left" => money(amounts.sum), "bookings" => amounts.size }
  end

  def money(amount)
    whole, cents = amount.to_d.to_s("F").split(".")
    "#{whole}.#{cents.ljust(2, '0')}"
  end
end
