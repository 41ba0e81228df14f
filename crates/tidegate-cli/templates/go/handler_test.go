package function

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHandle(t *testing.T) {
	for _, c := range []struct {
		method, target, body string
		status               int
		answer               string
	}{
		{"GET", "/?name=gate", "", 200, `{"hello":"gate"}`},
		{"GET", "/", "", 200, `{"hello":"world"}`},
		{"POST", "/", `{"name":"tide"}`, 200, `{"hello":"tide"}`},
		{"POST", "/", `{`, 400, `{"error":`},
	} {
		recorder := httptest.NewRecorder()
		Handle(recorder, httptest.NewRequest(c.method, c.target, strings.NewReader(c.body)))
		if recorder.Code != c.status || !strings.HasPrefix(recorder.Body.String(), c.answer) {
			t.Errorf("%s %s: %d %s", c.method, c.target, recorder.Code, recorder.Body)
		}
	}
}
