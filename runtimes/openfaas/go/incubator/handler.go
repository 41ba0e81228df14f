// Package handler has the same types under the path that functions of earlier years import.
package handler

import current "github.com/openfaas/templates-sdk/go-http"

// Request is one call.
type Request = current.Request

// Response is the answer to it.
type Response = current.Response

// FunctionHandler is what a function's package may offer as a value.
type FunctionHandler = current.FunctionHandler
