#!/bin/sh
# Greets whoever the text on standard input names.
#
# A process a call: the request's body comes on standard input, its query in $QUERY_STRING, and what is printed is the
# answer. An exit code other than 0 is a failure whose reason stands in the log.
set -eu

name=$(head -c 1024 | tr -d '\000-\037')
echo "greeting ${name:-nobody in particular}" >&2
echo "hello, ${name:-world}"
