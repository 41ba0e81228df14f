// Package handler has the types that a function is called with and returns.
package handler

import (
	"context"
	"net/http"
)

// Request is one call.
type Request struct {
	Body        []byte
	Header      http.Header
	QueryString string
	Method      string
	Host        string

	ctx context.Context
}

// Response is the answer to it; a StatusCode of zero means 200.
type Response struct {
	Body       []byte
	StatusCode int
	Header     http.Header
}

// FunctionHandler is what a function's package may offer as a value.
type FunctionHandler interface {
	Handle(req Request) (Response, error)
}

// Context ends when the caller has gone.
func (r *Request) Context() context.Context {
	if r.ctx == nil {
		return context.Background()
	}
	return r.ctx
}

// WithContext sets what Context returns.
func (r *Request) WithContext(ctx context.Context) {
	if ctx == nil {
		panic("nil context")
	}
	r.ctx = ctx
}
