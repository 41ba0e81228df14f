# frozen_string_literal: true

# One call: standard input is the request's body, standard output the answer's.

require_relative 'function/handler'

puts Handler.new.run($stdin.read)
