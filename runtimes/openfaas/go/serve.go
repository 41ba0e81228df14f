package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// Where the watchdog calls the function.
const address = "127.0.0.1:8082"

// How long reading a request and writing its answer may take, unless the environment says otherwise.
const defaultTimeout = 10 * time.Second

// serve answers requests with the handler until the instance is ended.
func serve(handle http.HandlerFunc) {
	writes := timeout("write_timeout")
	server := &http.Server{
		Addr:           address,
		Handler:        handle,
		ReadTimeout:    timeout("read_timeout"),
		WriteTimeout:   writes,
		MaxHeaderBytes: 1 << 20,
		// Connections are kept by the other side, which closes those that it no longer wants: a server that did so too
		// might close one at the moment a request is on its way.
		IdleTimeout: -1,
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		<-signals
		grace, cancel := context.WithTimeout(context.Background(), writes)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			log.Printf("requests in flight were given up after %s: %v", writes, err)
		}
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatalf("cannot serve on %s: %v", address, err)
	}
	<-ended
}

// timeout reads a duration: whole seconds, or what Go writes, such as 1m30s.
func timeout(name string) time.Duration {
	value := os.Getenv(name)
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return time.Duration(seconds) * time.Second
	}
	if duration, err := time.ParseDuration(value); err == nil && duration >= 0 {
		return duration
	}
	return defaultTimeout
}
