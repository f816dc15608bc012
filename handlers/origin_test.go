package handlers

import (
	"strings"
	"testing"
)

func TestOrigin(t *testing.T) {
	t.Run("is compared as browsers send it", originsAreCompared)
	t.Run("that cannot match is no setting", originsAreRefused)
	t.Run("is told in a preflight which headers may come", originPreflight)
}

func originsAreCompared(t *testing.T) {
	for _, c := range []struct {
		entries string // space between
		origin  string
		host    string // of the request
		ok      bool
	}{
		// Exact ones, in whichever way they are written.
		{"https://app.example", "https://app.example", "b", true},
		{"https://app.example:443", "https://app.example", "b", true},
		{"http://app.example:80", "http://app.example", "b", true},
		{"https://app.example", "https://app.example:443", "b", true},
		{"HTTPS://App.Example", "https://app.example", "b", true},
		{"https://app.example:8443", "https://app.example:8443", "b", true},
		{"https://müller.example", "https://xn--mller-kva.example", "b", true},
		{"https://MÜLLER.example", "https://xn--mller-kva.example", "b", true},
		{"https://xn--mller-kva.example", "https://xn--mller-kva.example", "b", true},
		{"https://straße.example", "https://xn--strae-oqa.example", "b", true},
		{"https://[::1]:8443", "https://[::1]:8443", "b", true},
		{"https://[0:0:0:0:0:0:0:1]", "https://[::1]", "b", true},
		{"http://my_app.local:3000", "http://my_app.local:3000", "b", true},
		{"https://a.example https://b.example", "https://b.example", "b", true},
		{"https://app.example", "http://app.example", "b", false},
		{"https://app.example", "https://app.example:8443", "b", false},
		{"https://app.example:80", "https://app.example", "b", false},
		{"http://app.example:443", "https://app.example", "b", false},
		{"https://app.example", "https://app.example.evil.example", "b", false},
		{"https://app.example", "https://evilapp.example", "b", false},
		{"https://app.example", "https://app.example/", "b", false},
		{"https://app.example", "https://x@app.example", "b", false},
		{"https://app.example", "null", "b", false},
		{"https://app.example", "app.example", "b", false},

		// One label.
		{"https://*.example.com", "https://a.example.com", "b", true},
		{"https://*.example.com", "https://A.Example.com:443", "b", true},
		{"https://*.example.com:8443", "https://a.example.com:8443", "b", true},
		{"https://*.müller.example", "https://a.xn--mller-kva.example", "b", true},
		{"http://*.localhost:3000", "http://tenant.localhost:3000", "b", true},
		{"https://*.example.com", "https://example.com", "b", false},
		{"https://*.example.com", "https://a.b.example.com", "b", false},
		{"https://*.example.com", "https://.example.com", "b", false},
		{"https://*.example.com", "https://a.example.com.evil.example", "b", false},
		{"https://*.example.com", "https://aexample.com", "b", false},
		{"https://*.example.com", "http://a.example.com", "b", false},
		{"https://*.example.com", "https://a.example.com:8443", "b", false},
		{"https://*.example.com", "https://a.evil.com", "b", false},
		{"https://*.example.co.uk", "https://a.example.co.uk", "b", true},
		{"https://*.vercel.app", "https://mine.vercel.app", "b", true},
		{"https://*.corp.internal", "https://a.corp.internal", "b", true},
		{"http://*.0.0.1.example", "http://127.0.0.1", "b", false},

		// Apps, and what has no origin of its own.
		{"capacitor://localhost", "capacitor://localhost", "b", true},
		{"ionic://localhost", "ionic://localhost", "b", true},
		{"tauri://localhost", "tauri://localhost", "b", true},
		{"app://bundle.Id", "app://bundle.Id", "b", true},
		{"app://.", "app://.", "b", true},
		{"https://localhost", "https://localhost", "b", true},
		{"chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop", "b", true},
		{"file://", "file://", "b", true},
		{"null", "null", "b", true},
		{"capacitor://localhost", "ionic://localhost", "b", false},
		{"capacitor://localhost", "capacitor://localhost.evil", "b", false},
		{"", "capacitor://localhost", "localhost", false},
		{"", "file://", "", false},
		{"", "null", "null", false},

		// The bridge's own, listed or not.
		{"", "https://bridge.example", "bridge.example", true},
		{"", "http://bridge.example", "bridge.example", true},
		{"", "https://bridge.example", "bridge.example:443", true},
		{"", "https://Bridge.Example", "bridge.EXAMPLE", true},
		{"", "http://10.0.2.2:8080", "10.0.2.2:8080", true},
		{"", "http://[::1]:8080", "[::1]:8080", true},
		{"", "https://bridge.example:8443", "bridge.example", false},
		{"", "https://bridge.example", "bridge.example:8443", false},
		{"", "http://bridge.example", "bridge.example:443", false},
		{"", "http://bridge.example:443", "bridge.example", false},
		{"", "https://other.example", "bridge.example", false},
		{"", "https://bridge.example", "", false},
		{"", "https://bridge.example", "evil@bridge.example", false},
	} {
		o, err := ParseOrigins(strings.Fields(c.entries))
		if err != nil {
			t.Errorf("%s: %v", c.entries, err)
			continue
		}
		if got := o.allows(c.origin, c.host); got != c.ok {
			t.Errorf("entries %q, Origin %q, Host %q: %v", c.entries, c.origin, c.host, got)
		}
	}
}

func originsAreRefused(t *testing.T) {
	for _, entry := range []string{
		"", "*", "app.example", "app.example:443", "https://", "https:app.example", "//app.example", "https://app.example/", "https://app.example/path",
		"https://app.example?x", "https://app.example?", "https://app.example#x", "https://app.example#", "https://user@app.example", "https://app.example:",
		"https://app.example:0", "https://app.example:65536", "https://app.example:x", "https://a b.example", "https://app..example", "https://.example",
		"https://*", "https://*.", "https://*.com", "https://**.example.com", "https://a.*.example.com", "https://app*.example.com", "https://*.*.example.com",
		"https://*.127.0.0.1", "https://*:8080", "*://app.example", "https://*.co.uk", "https://*.com.br:8443", "https://*.公司.cn", "https://*.co.uk.", "capacitor://*.localhost", "capacitor://", "capacitor://localhost/", "file:///app",
		"ws://app.example", "wss://app.example", "ftp://app.example", "data://x", "blob://app.example", "javascript://x", "Null", "NULL", "https://app_ü.exa mple", "https://[::1",
	} {
		_, err := ParseOrigins([]string{"https://ok.example", entry})
		if err == nil {
			t.Errorf("%q is taken", entry)
		} else if !strings.HasPrefix(err.Error(), `"`+entry+`": `) {
			t.Errorf("%q is not named: %v", entry, err)
		}
	}
}

func originPreflight(t *testing.T) {
	for asked, want := range map[string]string{
		"": "", "traceparent": ",traceparent", "x-b3-traceid, newrelic,x-datadog-origin": ",x-b3-traceid,newrelic,x-datadog-origin",
		"a b,\"x\",ü,c\r\nd,,ok": ",ok", strings.Repeat("x", 1024) + ",ok": ",ok",
	} {
		if got := allowedHeaders(asked); got != corsHeaders+want {
			t.Errorf("%.40q: %.200q", asked, strings.TrimPrefix(got, corsHeaders))
		}
	}
}

// Whatever is taken is written in one form, which is taken as itself.
func FuzzNormalOrigin(f *testing.F) {
	for _, s := range []string{"https://App.example:443", "capacitor://localhost", "https://müller.example", "https://[::1]:8443", "file://", "app://.", "https://a..b", "http://x@y", "null", "A://0\xbd!0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := normalOrigin(s)
		if err != nil {
			return
		}
		again, err := normalOrigin(n.String())
		if err != nil || again != n {
			t.Fatalf("%q is %q, which is %q, %v", s, n, again, err)
		}
	})
}
