// Package qrcode answers a text with its QR code as a PNG.
package qrcode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"unicode/utf8"

	qr "github.com/skip2/go-qrcode"
)

const (
	// A version 40 code at the lowest level of correction holds this much, so there is no use in reading more.
	longestText = 2953
	defaultSide = 256
	smallest    = 64
	largest     = 2048
)

// Levels of correction by the letters that the standard gives them, and the share of a code that may be lost.
var levels = map[string]qr.RecoveryLevel{
	"L": qr.Low,     // 7 %
	"M": qr.Medium,  // 15 %
	"Q": qr.High,    // 25 %
	"H": qr.Highest, // 30 %
}

// Handle answers GET ?text=… and POST of a text. ?size= is the side in pixels, ?level= one of L, M, Q and H.
func Handle(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	var text string
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		text = query.Get("text")
	case http.MethodPost:
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, longestText))
		var tooLong *http.MaxBytesError
		if errors.As(err, &tooLong) {
			problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the text is too long; a QR code holds %d bytes", longestText))
			return
		}
		if err != nil {
			problem(w, http.StatusBadRequest, "the text did not arrive whole")
			return
		}
		text = string(body)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		problem(w, http.StatusMethodNotAllowed, "ask by GET, or send the text by POST")
		return
	}
	if text == "" {
		problem(w, http.StatusBadRequest, "there is no text; give ?text=, or send it by POST")
		return
	}
	if !utf8.ValidString(text) {
		problem(w, http.StatusBadRequest, "the text is not UTF-8")
		return
	}

	side := defaultSide
	if given := query.Get("size"); given != "" {
		number, err := strconv.Atoi(given)
		if err != nil || number < smallest || number > largest {
			problem(w, http.StatusBadRequest, fmt.Sprintf("size is %.20q; expected a number from %d to %d", given, smallest, largest))
			return
		}
		side = number
	}
	level := qr.Medium
	if given := query.Get("level"); given != "" {
		known, ok := levels[given]
		if !ok {
			problem(w, http.StatusBadRequest, fmt.Sprintf("level is %.20q; expected L, M, Q or H", given))
			return
		}
		level = known
	}

	code, err := qr.New(text, level)
	if err != nil {
		problem(w, http.StatusRequestEntityTooLarge, "the text is too long for this level; a lower one holds more")
		return
	}
	picture, err := code.PNG(side)
	if err != nil {
		panic(err) // Encoding into memory does not fail.
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Content-Length", strconv.Itoa(len(picture)))
	// The same question always has the same answer.
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Write(picture)
}

func problem(w http.ResponseWriter, status int, sentence string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": sentence})
}
