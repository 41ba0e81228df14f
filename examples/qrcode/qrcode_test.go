package qrcode

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func call(method, target, body string) *http.Response {
	answer := httptest.NewRecorder()
	Handle(answer, httptest.NewRequest(method, target, strings.NewReader(body)))
	return answer.Result()
}

func picture(t *testing.T, answer *http.Response) image.Image {
	t.Helper()
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "image/png" {
		t.Fatalf("%d %s", answer.StatusCode, answer.Header.Get("Content-Type"))
	}
	decoded, err := png.Decode(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}

func dark(picture image.Image, x, y int) bool {
	red, _, _, _ := picture.At(x, y).RGBA()
	return red < 0x8000
}

// The modules of a code, one character each, without the quiet zone around them.
func modules(t *testing.T, picture image.Image) []string {
	t.Helper()
	side := picture.Bounds().Dx()
	start := 0
	for start < side && !dark(picture, start, start) {
		start++
	}
	// The square in the corner is seven modules wide; there is one in the opposite corner too.
	finder, end := start, side
	for finder < side && dark(picture, finder, start) {
		finder++
	}
	for end > start && !dark(picture, end-1, start) {
		end--
	}
	if finder == start {
		t.Fatal("no code in the picture")
	}
	// A code of version v is 17 + 4v modules wide.
	width := float64(end - start)
	version := math.Round((7*width/float64(finder-start) - 17) / 4)
	count := int(17 + 4*version)
	at := func(module int) int { return start + int((float64(module)+0.5)*width/float64(count)) }
	var lines []string
	for y := 0; y < count; y++ {
		var line strings.Builder
		for x := 0; x < count; x++ {
			if dark(picture, at(x), at(y)) {
				line.WriteByte('#')
			} else {
				line.WriteByte('.')
			}
		}
		lines = append(lines, line.String())
	}
	return lines
}

// Read back by an independent decoder when it was written down.
var tide = strings.TrimSpace(`
#######.#.#..#.#..#######
#.....#.#..#.#....#.....#
#.###.#..###....#.#.###.#
#.###.#.##.#..#.#.#.###.#
#.###.#..####.###.#.###.#
#.....#......#....#.....#
#######.#.#.#.#.#.#######
........#.#.#............
#.##.###...###.##.#..#.##
#.#.##.##.#.###.##.#.....
#.##.##.##.###..##.####..
..#..#..#.#.#..##.#..###.
..##..#...###.###.#.###..
....##..#..##.#######.###
.##.#.####.#.#..#..#..##.
#..##..###.#..##..##.#..#
......#..#..#.#.#####.###
........#.#...#.#...#.#.#
#######.#.#..##.#.#.##.##
#.....#.##.#.##.#...##...
#.###.#..##..##.######...
#.###.#.##.....#.####..##
#.###.#.#.....##.#######.
#.....#....#####.....##..
#######.##.#.....##..####
`)

func TestATextBecomesItsCode(t *testing.T) {
	for _, answer := range []*http.Response{
		call("GET", "/?text=high+water+at+six", ""),
		call("POST", "/", "high water at six"),
		call("POST", "/?size=512&level=M", "high water at six"),
	} {
		if got := strings.Join(modules(t, picture(t, answer)), "\n"); got != tide {
			t.Errorf("the code is\n%s", got)
		}
	}
}

func TestSizeIsHonoured(t *testing.T) {
	for size, side := range map[string]int{"": 256, "?size=64": 64, "?size=2048": 2048} {
		if got := picture(t, call("POST", "/"+size, "x")).Bounds(); got != image.Rect(0, 0, side, side) {
			t.Errorf("%q: %v", size, got)
		}
	}
}

func TestMoreCorrectionTakesMoreModules(t *testing.T) {
	text := strings.Repeat("tide ", 20)
	low := modules(t, picture(t, call("POST", "/?level=L&size=1024", text)))
	high := modules(t, picture(t, call("POST", "/?level=H&size=1024", text)))
	if len(low) >= len(high) {
		t.Errorf("%d and %d", len(low), len(high))
	}
}

func TestWhatCannotBeEncodedIsRefused(t *testing.T) {
	for _, c := range []struct {
		method, target, body string
		status               int
		says                 string
	}{
		{"GET", "/", "", 400, "no text"},
		{"POST", "/", "\xff\xfe", 400, "not UTF-8"},
		{"POST", "/?size=63", "x", 400, "from 64 to 2048"},
		{"POST", "/?size=big", "x", 400, "from 64 to 2048"},
		{"POST", "/?level=Z", "x", 400, "L, M, Q or H"},
		{"POST", "/", strings.Repeat("x", 2954), 413, "2953"},
		{"POST", "/?level=H", strings.Repeat("x", 2000), 413, "a lower one"},
		{"DELETE", "/?text=x", "", 405, "by GET"},
	} {
		answer := call(c.method, c.target, c.body)
		var problem struct{ Error string }
		if err := json.NewDecoder(answer.Body).Decode(&problem); err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != c.status || !strings.Contains(problem.Error, c.says) {
			t.Errorf("%s %s: %d %s", c.method, c.target, answer.StatusCode, problem.Error)
		}
	}
}

func TestTheSameQuestionHasTheSameAnswer(t *testing.T) {
	read := func() []byte {
		var body bytes.Buffer
		body.ReadFrom(call("GET", "/?text=x", "").Body)
		return body.Bytes()
	}
	if !bytes.Equal(read(), read()) {
		t.Error("two pictures of one text differ")
	}
}
