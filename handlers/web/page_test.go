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
	webtest.Do(p.Tab, chromedp.Navigate(server.URL+"/?lang=en"))
	p.Sees("#patient [data-pill]", "again in")
	webtest.Do(p.Tab, chromedp.Click("#add button"))
	p.Sees("#log .mark", "failed")
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
