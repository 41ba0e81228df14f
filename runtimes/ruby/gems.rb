# frozen_string_literal: true

# Loaded when something names `Gem`.
Tidegate::Gems.load
