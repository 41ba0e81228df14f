// Package function signs what it is sent: any number of bytes in, their digests out.
package function

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
)

// keyFile is where OpenFaaS shows a function its secrets.
var keyFile = "/var/openfaas/secrets/digest-key"

type digests struct {
	Bytes     int64  `json:"bytes"`
	SHA256    string `json:"sha256"`
	Signature string `json:"signature"`
}

// Handle reads the body as it comes and keeps none of it.
func Handle(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost && r.Method != http.MethodPut {
		w.Header().Set("Allow", "POST, PUT")
		http.Error(w, "send the bytes by POST or PUT", http.StatusMethodNotAllowed)
		return
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		http.Error(w, "the key cannot be read: "+err.Error(), http.StatusInternalServerError)
		return
	}
	plain := sha256.New()
	signed := hmac.New(sha256.New, []byte(strings.TrimSpace(string(key))))
	count, err := io.Copy(io.MultiWriter(plain, signed), r.Body)
	if err != nil {
		http.Error(w, "the body broke off: "+err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(digests{
		Bytes:     count,
		SHA256:    hex.EncodeToString(plain.Sum(nil)),
		Signature: "sha256=" + hex.EncodeToString(signed.Sum(nil)),
	})
}
