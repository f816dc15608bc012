package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"hookbridge/handlers/web/webtest"
)

func TestPage(t *testing.T) {
	t.Run("without its backend says so", pageWithoutBackend)
	t.Run("has nothing inline and nothing from elsewhere", pageHasNothingInline)
}

func pageWithoutBackend(t *testing.T) {
	server := httptest.NewServer(http.FileServerFS(Files))
	t.Cleanup(server.Close)
	p := newTab(t)
	for language, want := range map[string]struct{ pill, mark, why string }{
		"en": {"again in", "failed", "The clinic’s backend cannot be reached."},
		"zh": {"秒后重连", "失败", "无法连接医院后端。"},
	} {
		webtest.Do(p.Tab, chromedp.Navigate(server.URL+"/?lang="+language))
		p.Sees("#patient [data-pill]", want.pill)
		webtest.Do(p.Tab, chromedp.Click("#add button"))
		p.Sees("#log .mark", want.mark)
		p.Eval(`(window.fetch = () => Promise.reject(new TypeError("Failed to fetch")), 0)`) // what a server that is down makes of it
		webtest.Do(p.Tab, chromedp.Click("#add button"))
		p.Sees("#log .why", want.why)
	}
}

func pageHasNothingInline(t *testing.T) {
	page, err := Files.ReadFile("index.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"style=", "onclick=", "onload=", "<style", "http://", "https://", "<script>"} {
		if strings.Contains(string(page), bad) {
			t.Errorf("index.html has %q", bad)
		}
	}
}
