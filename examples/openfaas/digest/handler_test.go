package function

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func ask(t *testing.T, method, body string) *httptest.ResponseRecorder {
	t.Helper()
	reply := httptest.NewRecorder()
	Handle(reply, httptest.NewRequest(method, "/", strings.NewReader(body)))
	return reply
}

func TestBytesAreDigested(t *testing.T) {
	keyFile = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte("low tide\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	reply := ask(t, http.MethodPost, "high water")
	want := `{"bytes":10,"sha256":"b997736f73e60bdfc6fde41d9f7746383168e7468ae085ac77fa9dd829c6c39a","signature":"sha256=93ae7a34c4a5dfd5dc796e68650476a988003a03e85641ea0bfdfcfefd575c46"}` + "\n"
	if reply.Code != http.StatusOK || reply.Body.String() != want {
		t.Fatalf("%d %q", reply.Code, reply.Body.String())
	}
}

func TestOnlyWhatHasABody(t *testing.T) {
	if reply := ask(t, http.MethodGet, ""); reply.Code != http.StatusMethodNotAllowed {
		t.Fatalf("status %d", reply.Code)
	}
}

func TestAKeyThatIsNotThere(t *testing.T) {
	keyFile = filepath.Join(t.TempDir(), "none")
	reply := ask(t, http.MethodPost, "x")
	if reply.Code != http.StatusInternalServerError || !strings.Contains(reply.Body.String(), "key") {
		t.Fatalf("%d %q", reply.Code, reply.Body.String())
	}
}
