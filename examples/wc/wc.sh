#!/bin/sh
# Counts lines, words and bytes of the body, which comes on standard input; what is printed is the answer.
# `?lines&words` asks for some of them, in that order; no query asks for all.
set -eu

# The body is kept because it is counted more than once. A pipe could be read only once.
body=$(mktemp)
trap 'rm -f "$body"' EXIT
cat > "$body"

asked=$(printf '%s' "${QUERY_STRING:-}" | tr '&' ' ')
comma=
printf '{'
# Unquoted so that the words part; `set -f` keeps a `*` in the query from becoming file names.
set -f
for name in ${asked:-lines words bytes}; do
    case $name in
        lines) flag=-l ;;
        words) flag=-w ;;
        bytes) flag=-c ;;
        *)
            echo "query asks for '$name'; expected lines, words or bytes" >&2
            exit 2
            ;;
    esac
    printf '%s"%s":%d' "$comma" "$name" "$(wc "$flag" < "$body")"
    comma=,
done
printf '}\n'
