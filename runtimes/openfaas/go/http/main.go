// The program that a function with Handle(handler.Request) (handler.Response, error) becomes part of.
package main

import (
	"io"
	"log"
	"net/http"

	"handler/function"

	handler "github.com/openfaas/templates-sdk/go-http"
)

func main() {
	serve(answer)
}

// answer calls the function with the whole request and sends what it returns.
func answer(w http.ResponseWriter, r *http.Request) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			log.Printf("the request's body could not be read: %v", err)
			http.Error(w, "the request's body could not be read", http.StatusBadRequest)
			return
		}
	}
	request := handler.Request{
		Body:        body,
		Header:      r.Header,
		QueryString: r.URL.RawQuery,
		Method:      r.Method,
		Host:        r.Host,
	}
	request.WithContext(r.Context())
	response, err := function.Handle(request)
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	status := response.StatusCode
	switch {
	case err != nil:
		log.Print(err)
		status = http.StatusInternalServerError
	case status == 0:
		status = http.StatusOK
	}
	w.WriteHeader(status)
	if _, err := w.Write(response.Body); err != nil && err != http.ErrBodyNotAllowed {
		log.Printf("the answer could not be sent: %v", err)
	}
}
