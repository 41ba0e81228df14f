// Package function greets whoever is named.
package function

import (
	"encoding/json"
	"log"
	"net/http"
)

// Handle answers GET with ?name= and POST of {"name": …}.
func Handle(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	if r.Method == http.MethodPost {
		var asked struct{ Name string }
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			answer(w, http.StatusBadRequest, map[string]string{"error": "the body is not JSON: " + err.Error()})
			return
		}
		name = asked.Name
	}
	if name == "" {
		name = "world"
	}
	log.Printf("greeting %s", name)
	answer(w, http.StatusOK, map[string]string{"hello": name})
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(value); err != nil {
		log.Printf("the caller is gone: %v", err)
	}
}
