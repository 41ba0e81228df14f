package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

// How long requests in flight may take to end once the instance is asked to.
const tidegateGrace = 10 * time.Second

// tidegateServe answers requests on $PORT with the function until the instance is ended.
//
// It is compiled into the function's program. Its names are its own, since they may stand in the function's package.
func tidegateServe(handle http.HandlerFunc) {
	port := os.Getenv("PORT")
	if port == "" {
		fmt.Fprintln(os.Stderr, "PORT is not set; this program is a function and is started by its platform")
		os.Exit(1)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	server := &http.Server{
		Handler: tidegateGuard(handle),
		// What is accepted of a head is decided before it comes here; a slow one is not this program's to time.
		MaxHeaderBytes: 1 << 20,
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		<-signals
		grace, cancel := context.WithTimeout(context.Background(), tidegateGrace)
		defer cancel()
		_ = server.Shutdown(grace)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-ended
}

// tidegateGuard answers a panic with 500 where the answer has not begun, and breaks it off where it has. The trace is for
// the log alone.
func tidegateGuard(handle http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &tidegateAnswer{ResponseWriter: w}
		defer func() {
			reason := recover()
			if reason == nil {
				return
			}
			if reason == http.ErrAbortHandler {
				panic(reason)
			}
			id := r.Header.Get("X-Request-Id")
			fmt.Fprintf(os.Stderr, "panic in request %s: %v\n%s", id, reason, debug.Stack())
			if answer.begun {
				panic(http.ErrAbortHandler)
			}
			head := w.Header()
			for name := range head {
				head.Del(name)
			}
			head.Set("Content-Type", "application/json")
			head.Set("X-Tidegate-Outcome", "function")
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, "{\"error\":\"function failed\",\"requestId\":%q}", id)
		}()
		handle(answer, r)
	})
}

// tidegateAnswer knows whether the answer has begun.
type tidegateAnswer struct {
	http.ResponseWriter
	begun bool
}

func (a *tidegateAnswer) WriteHeader(status int) {
	// An informational answer, such as early hints, is not the answer.
	a.begun = a.begun || status >= http.StatusOK || status == http.StatusSwitchingProtocols
	a.ResponseWriter.WriteHeader(status)
}

func (a *tidegateAnswer) Write(piece []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(piece)
}

// Unwrap lets http.ResponseController find what the server's own writer can do.
func (a *tidegateAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Flush is asked for by name where http.ResponseController is not used.
func (a *tidegateAnswer) Flush() {
	a.begun = true
	_ = http.NewResponseController(a.ResponseWriter).Flush()
}
