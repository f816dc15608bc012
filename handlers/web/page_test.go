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
	t.Run("shows its switches in high contrast, too", pageHighContrast)
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

func pageHighContrast(t *testing.T) {
	server := httptest.NewServer(http.FileServerFS(Files))
	t.Cleanup(server.Close)
	p := newTab(t)
	webtest.Do(p.Tab, chromedp.Navigate(server.URL+"/?lang=en"))
	p.Sees("#patient [data-pill]", "again in")
	p.Media("forced-colors", "active")
	got := p.Eval(`(() => {
		const paint = (el, part) => getComputedStyle(el, part).backgroundColor;
		const [pocket, page] = [document.querySelector("#pocket"), paint(document.body)];
		pocket.style.transition = "none";
		const off = paint(pocket);
		pocket.checked = true;
		const [on, knob] = [paint(pocket), paint(pocket, "::before")];
		const [chosen, other] = [...document.querySelectorAll("[data-language]")].map((el) => paint(el));
		return [off !== page, on !== page, off !== on, knob !== on, chosen !== other];
	})()`)
	if text(got) != "[true,true,true,true,true]" {
		t.Errorf("off, on, the two apart, the knob, the chosen language: %s", text(got))
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
