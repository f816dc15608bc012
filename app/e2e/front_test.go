package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

// What stands in front of the program, and who comes through it: origins of
// browsers and apps, proxies, balancers, scrapers.

func TestAppsAndTheBridgesOwnOriginMayConnect(t *testing.T) {
	w := start(t, func(s *server.Settings) {
		s.AllowedOrigins = []string{"https://app.example", "https://*.example.com", "capacitor://localhost", "https://müller.example", "null"}
	})
	for origin, ok := range map[string]bool{
		"http://" + w.p.Addr(): true, "https://" + w.p.Addr(): true, "https://app.example": true, "https://tenant.example.com": true,
		"capacitor://localhost": true, "https://xn--mller-kva.example": true, "null": true,
		"ionic://localhost": false, "https://a.b.example.com": false, "http://127.0.0.1:1": false, "https://evil.example": false,
	} {
		_, res, err := w.dial(http.Header{"Origin": {origin}}, "", "bridge.v1.json")
		if (err == nil) != ok || !ok && res.StatusCode != http.StatusForbidden {
			t.Errorf("a socket from %s: %v %v", origin, err, res)
		}
		req, err := http.NewRequest(http.MethodPost, w.base+"/v1/tickets", nil)
		expect.NoError(t, err)
		req.Header = http.Header{"Origin": {origin}, "Authorization": {"Bearer " + token(t, "patient-1", time.Hour, "")}}
		a := w.do(req)
		if ok != (a.HTTP == http.StatusCreated && a.Header.Get("Access-Control-Allow-Origin") == origin) {
			t.Errorf("a ticket for %s: %d %v", origin, a.HTTP, a.Header)
		}
		if !strings.Contains(a.Header.Get("Vary"), "Origin") {
			t.Errorf("%s: Vary: %s", origin, a.Header.Get("Vary"))
		}
	}
}

func TestPagesMaySendWhatTracingAddsToARequest(t *testing.T) {
	w := start(t)
	for _, path := range []string{"/v1/tickets", "/v1/stream", "/v1/poll", "/v1/acks", "/v1/users/u/sessions"} {
		req, err := http.NewRequest(http.MethodOptions, w.base+path, nil)
		expect.NoError(t, err)
		req.Header = http.Header{"Origin": {"https://app.example"}, "Access-Control-Request-Method": {"GET"},
			"Access-Control-Request-Headers": {"authorization,baggage,cache-control,sentry-trace,traceparent,tracestate,x-requested-with"}}
		a := w.do(req)
		allowed := strings.Split(strings.ToLower(a.Header.Get("Access-Control-Allow-Headers")), ",")
		for _, want := range []string{"authorization", "content-type", "last-event-id", "traceparent", "tracestate", "baggage", "sentry-trace", "x-requested-with", "cache-control"} {
			if !slices.Contains(allowed, want) {
				t.Errorf("%s: %s is not among %v", path, want, allowed)
			}
		}
		if a.HTTP != http.StatusNoContent || a.Header.Get("Access-Control-Max-Age") != "7200" || a.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %d %v", path, a.HTTP, a.Header)
		}
	}
}

// A browser's own EventSource can send no header.
func TestATicketOpensAStream(t *testing.T) {
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	ticket := func() string {
		t.Helper()
		var body struct{ Ticket string }
		a := w.callAs(tok, http.MethodPost, "/v1/tickets", "")
		expect.NoError(t, json.Unmarshal([]byte(a.Raw), &body))
		return body.Ticket
	}
	open := func(query string, header http.Header) (*http.Response, []byte) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, w.base+"/v1/stream"+query, nil)
		expect.NoError(t, err)
		if header != nil {
			req.Header = header
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		expect.NoError(t, err)
		t.Cleanup(func() { res.Body.Close() })
		if res.StatusCode == http.StatusOK {
			return res, nil
		}
		b, err := io.ReadAll(res.Body)
		expect.NoError(t, err)
		return res, b
	}
	used := ticket()
	res, body := open("?ticket="+used, nil)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	first := &sse{t: t, res: res, in: bufio.NewReader(res.Body)}
	hello := first.want("connected")
	if hello.User != "patient-1" {
		t.Errorf("%s", hello.Raw)
	}
	w.fireTo("patient-1", 1)
	first.want("event")
	res, body = open("?ticket="+ticket()+"&after="+hello.Cursor, nil)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("resumed: %d %s", res.StatusCode, body)
	}
	second := &sse{t: t, res: res, in: bufio.NewReader(res.Body)}
	second.want("connected")
	if e := second.want("event"); !e.Replay || e.n() != 1 {
		t.Errorf("%s", e.Raw)
	}
	bearer := http.Header{"Authorization": {"Bearer " + tok}}
	for name, c := range map[string]struct {
		query  string
		header http.Header
		status int
		code   string
	}{
		"used":              {"?ticket=" + used, nil, 401, "unauthorized"},
		"of nobody":         {"?ticket=abc", nil, 401, "unauthorized"},
		"empty":             {"?ticket=", nil, 401, "unauthorized"},
		"beside a token":    {"?ticket=" + ticket(), bearer, 400, "several_tokens"},
		"twice":             {"?ticket=" + ticket() + "&ticket=" + ticket(), nil, 400, "several_tokens"},
		"a token as ticket": {"?ticket=" + tok, nil, 400, "token_in_url"},
		"none":              {"", nil, 401, "unauthorized"},
	} {
		res, body := open(c.query, c.header)
		var p struct{ Code string }
		if json.Unmarshal(body, &p) != nil || res.StatusCode != c.status || p.Code != c.code {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}
	revoked := ticket()
	w.done(http.MethodPost, "/v1/users/patient-1/revocations", `{"jti":"jti-patient-1"}`)
	if res, body := open("?ticket="+revoked, nil); res.StatusCode != http.StatusForbidden {
		t.Errorf("revoked: %d %s", res.StatusCode, body)
	}
}

func TestATokenInAURLIsRefusedAndToldHowElse(t *testing.T) {
	w := start(t)
	tok := token(t, "patient-1", time.Hour, "")
	for path, how := range map[string]string{"/ws": "POST /v1/tickets", "/v1/stream": "?ticket=", "/v1/poll": "Authorization header", "/v1/acks": "Authorization header"} {
		for _, name := range []string{"token", "access_token", "Authorization", "jwt", "x"} {
			method := http.MethodGet
			if path == "/v1/acks" {
				method = http.MethodPost
			}
			a := w.callAs(tok, method, path+"?"+name+"="+tok, "")
			if a.HTTP != http.StatusBadRequest || a.Code != "token_in_url" || !strings.Contains(a.Detail, how) || !strings.Contains(a.Detail, "URLs end up in logs") {
				t.Errorf("%s?%s=: %d %s", path, name, a.HTTP, a.Raw)
			}
		}
	}
	if strings.Contains(w.logs.String(), tok) {
		t.Error("the log repeats the token")
	}
}

// remotes lists the addresses that the audit log names.
func remotes(t *testing.T, path string) (out []string) {
	t.Helper()
	for _, l := range auditLines(t, path) {
		var r struct{ Remote string }
		expect.NoError(t, json.Unmarshal([]byte(l.raw), &r))
		if r.Remote != "" {
			out = append(out, r.Remote)
		}
	}
	return out
}

// Whoever has an IPv6 network to themselves has one allowance, whatever they call.
func TestAcksOfOneIPv6NetworkShareItsRate(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.ConnectRate, s.TrustedProxies = 0.01, "1" })
	good := token(t, "patient-1", time.Hour, "")
	passed := 0
	for i := range 20 {
		req, err := http.NewRequest(http.MethodPost, w.base+"/v1/acks", strings.NewReader(`{"cursor":"x"}`))
		expect.NoError(t, err)
		req.Header = http.Header{"Authorization": {"Bearer " + good}, "Content-Type": {"application/json"},
			"X-Forwarded-For": {fmt.Sprintf("2001:db8::%d", i+1)}}
		if a := w.do(req); a.HTTP != http.StatusTooManyRequests {
			passed++
		}
	}
	if passed > 5 {
		t.Errorf("%d acks passed", passed)
	}
}

// A client that writes X-Forwarded-For itself neither gets past the limits of its
// address nor into the audit log as somebody else.
func TestNobodyCanForgeAnAddressBehindAProxy(t *testing.T) {
	for name, set := range map[string]func(*server.Settings){
		"a count":  func(s *server.Settings) { s.TrustedProxies = "1" },
		"networks": func(s *server.Settings) { s.TrustedProxies = "127.0.0.0/8, 192.0.2.0/24" },
		"a header": func(s *server.Settings) { s.ClientIPHeader = "X-Forwarded-For" },
	} {
		t.Run(name, func(t *testing.T) {
			audit := filepath.Join(t.TempDir(), "audit")
			w := start(t, set, func(s *server.Settings) { s.ConnectRate, s.Audit = 0.01, audit })
			for i, c := range []struct {
				lines  []string
				status int
			}{
				{[]string{"198.51.100.1"}, 401}, {[]string{"203.0.113.1, 198.51.100.1"}, 429}, {[]string{"203.0.113.2", "198.51.100.1:4711"}, 429},
				{[]string{"198.51.100.2"}, 401}, {[]string{"[2001:db8::1]:443"}, 401}, {[]string{"2001:db8::2"}, 429}, {[]string{"2001:db8:0:1::2"}, 401},
				{[]string{"203.0.113.3, unknown"}, 401}, {[]string{"203.0.113.4, nobody"}, 429}, {nil, 429},
			} {
				req, err := http.NewRequest(http.MethodGet, w.base+"/v1/poll?waitMs=0", nil)
				expect.NoError(t, err)
				req.Header["X-Forwarded-For"] = c.lines
				if a := w.do(req); a.HTTP != c.status {
					t.Errorf("%d: %q: %d %s", i, c.lines, a.HTTP, a.Raw)
				}
			}
			got := remotes(t, audit)
			if want := "[198.51.100.1 198.51.100.2 2001:db8::1 2001:db8:0:1::2 127.0.0.1]"; fmt.Sprint(got) != want {
				t.Errorf("the audit log names %v, want %s", got, want)
			}
		})
	}
}

func TestOtherHeadersNameTheClientToo(t *testing.T) {
	for header, value := range map[string]string{"Fly-Client-IP": "198.51.100.1", "Forwarded": `for=203.0.113.9, for="198.51.100.1:99";proto=https`} {
		audit := filepath.Join(t.TempDir(), "audit")
		w := start(t, func(s *server.Settings) { s.ClientIPHeader, s.Audit = header, audit })
		req, err := http.NewRequest(http.MethodGet, w.base+"/v1/poll", nil)
		expect.NoError(t, err)
		req.Header.Set(header, value)
		req.Header.Set("X-Forwarded-For", "203.0.113.10")
		w.do(req)
		if got := remotes(t, audit); fmt.Sprint(got) != "[198.51.100.1]" {
			t.Errorf("%s: %v", header, got)
		}
	}
}

func TestEverythingIsServedUnderThePrefix(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.PathPrefix = "/team/bridge" })
	const prefix = "/team/bridge"
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		for _, p := range []string{path, prefix + path} {
			res, err := http.Get(w.base + p)
			expect.NoError(t, err)
			expect.NoError(t, res.Body.Close())
			if res.StatusCode != http.StatusOK {
				t.Errorf("%s: %d", p, res.StatusCode)
			}
		}
	}
	w.client.Transport = http.DefaultTransport // the contract knows no prefix
	bare := w.base
	w.base += prefix
	s := w.connect("patient-1", "")
	if a := w.fireTo("patient-1", 1); a.Status != "sent" {
		t.Errorf("%s", a.Raw)
	}
	s.want("event")
	if a := w.callAs(token(t, "patient-1", time.Hour, ""), http.MethodGet, "/v1/poll?waitMs=0", ""); a.HTTP != http.StatusOK || !strings.Contains(a.Raw, `"n":1`) {
		t.Errorf("poll: %d %s", a.HTTP, a.Raw)
	}
	items := make([]string, 40) // larger than one event may be
	for i := range items {
		items[i] = fmt.Sprintf(`{"id":"b%d","type":"t","to":{"user":"patient-2"},"data":%q}`, i, strings.Repeat("x", 2000))
	}
	if a := w.do(w.signFor("/webhooks/events/batch", "application/json", "batch", `{"events":[`+strings.Join(items, ",")+`]}`, time.Now())); a.HTTP != http.StatusAccepted {
		t.Errorf("batch: %d %.200s", a.HTTP, a.Raw)
	}
	if a := w.callAs("", http.MethodGet, "/bridge-client.js", ""); a.HTTP != http.StatusOK {
		t.Errorf("the client: %d", a.HTTP)
	}
	w.base = bare
	for _, path := range []string{"/ws", "/v1/poll", "/openapi.json", "/team", prefix, prefix + "s/ws", "/"} {
		if a := w.callAs("", http.MethodGet, path, ""); a.HTTP != http.StatusNotFound || a.Code != "not_found" {
			t.Errorf("%s: %d %s", path, a.HTTP, a.Raw)
		}
	}
}

func TestMetricsHaveAListenerOfTheirOwn(t *testing.T) {
	w := start(t, func(s *server.Settings) { s.MetricsListen = "127.0.0.1:0" })
	if a := w.callAs("", http.MethodGet, "/metrics", ""); a.HTTP != http.StatusNotFound {
		t.Errorf("on the public one: %d", a.HTTP)
	}
	public := w.base
	w.base = "http://" + w.p.MetricsAddr()
	if !strings.Contains(w.scrape(), "hookbridge_sessions 0") {
		t.Errorf("%.300s", w.scrape())
	}
	for _, path := range []string{"/", "/ws", "/v1/poll", "/readyz"} {
		res, err := http.Get(w.base + path)
		expect.NoError(t, err)
		expect.NoError(t, res.Body.Close())
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("%s on the listener of metrics: %d", path, res.StatusCode)
		}
	}
	w.base = public
	w.connect("patient-1", "")
	w.stop()
	if conn, err := net.Dial("tcp", w.p.MetricsAddr()); err == nil {
		expect.NoError(t, conn.Close())
		t.Error("it is still open after the stop")
	}
}

// proxied is a transport whose connections begin with a header of the PROXY
// protocol, naming a client; without a header where it is empty.
func proxied(version byte, client string) *http.Transport {
	return &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil || client == "" {
			return conn, err
		}
		source, err := net.ResolveTCPAddr("tcp", client)
		if err == nil {
			_, err = proxyproto.HeaderProxyFromAddrs(version, source, conn.RemoteAddr()).WriteTo(conn)
		}
		return conn, err
	}}
}

func TestTheProxyProtocolNamesTheClient(t *testing.T) {
	get := func(w *world, tr *http.Transport) int {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, w.base+"/v1/poll?waitMs=0", nil)
		expect.NoError(t, err)
		req.Header.Set("X-Forwarded-For", "203.0.113.9") // the client's own words
		res, err := tr.RoundTrip(req)
		if err != nil {
			return 0
		}
		expect.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	audit := filepath.Join(t.TempDir(), "audit")
	w := start(t, func(s *server.Settings) { s.ProxyProtocol, s.Audit = "on", audit })
	for _, tr := range []*http.Transport{proxied(2, "198.51.100.1:4711"), proxied(1, "198.51.100.2:4711")} {
		if status := get(w, tr); status != 401 {
			t.Errorf("with a header: %d", status)
		}
	}
	if status := get(w, proxied(0, "")); status == 401 {
		t.Error("a connection without a header is served")
	}
	unix := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil { // of a client at the balancer's Unix socket, who has no address
			a := &net.UnixAddr{Name: "/run/balancer", Net: "unix"}
			_, err = proxyproto.HeaderProxyFromAddrs(2, a, a).WriteTo(conn)
		}
		return conn, err
	}}
	if status := get(w, unix); status != 401 {
		t.Errorf("from a Unix socket: %d", status)
	}
	if got := remotes(t, audit); fmt.Sprint(got) != "[198.51.100.1 198.51.100.2 127.0.0.1]" {
		t.Errorf("the audit log names %v", got)
	}

	// Only the proxies of these networks may name anybody.
	audit = filepath.Join(t.TempDir(), "audit")
	w = start(t, func(s *server.Settings) { s.ProxyProtocol, s.TrustedProxies, s.Audit = "on", "192.0.2.0/24", audit })
	if status := get(w, proxied(0, "")); status != 401 {
		t.Errorf("somebody else: %d", status)
	}
	if status := get(w, proxied(2, "198.51.100.1:4711")); status == 401 {
		t.Error("somebody else has named a client")
	}
	if got := remotes(t, audit); fmt.Sprint(got) != "[127.0.0.1]" {
		t.Errorf("the audit log names %v", got)
	}

	// A proxy of the second row names the one of the first, which names the client.
	audit = filepath.Join(t.TempDir(), "audit")
	w = start(t, func(s *server.Settings) {
		s.ProxyProtocol, s.TrustedProxies, s.Audit = "on", "127.0.0.0/8, 192.0.2.0/24", audit
	})
	if status := get(w, proxied(2, "192.0.2.7:4711")); status != 401 {
		t.Errorf("two rows: %d", status)
	}
	if got := remotes(t, audit); fmt.Sprint(got) != "[203.0.113.9]" {
		t.Errorf("the audit log names %v", got)
	}

	// A session lives on such a connection as on any other.
	conn, err := net.Dial("tcp", w.p.Addr())
	expect.NoError(t, err)
	defer conn.Close()
	expect.NoError(t, conn.SetDeadline(time.Now().Add(expect.Patience)))
	_, err = proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 4711}, conn.RemoteAddr()).WriteTo(conn)
	expect.NoError(t, err)
	_, err = io.WriteString(conn, upgradeRequest(w.p.Addr()))
	expect.NoError(t, err)
	raw := &rawSocket{t, conn, bufio.NewReader(conn)}
	res, err := http.ReadResponse(raw.in, nil)
	expect.NoError(t, err)
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%d", res.StatusCode)
	}
	_, err = conn.Write(final(opText, `{"type":"connect","token":"`+token(t, "patient-1", time.Hour, "")+`"}`))
	expect.NoError(t, err)
	if _, payload := raw.frame(); !strings.Contains(string(payload), `"connected"`) {
		t.Fatalf("%s", payload)
	}
	(&rawCase{"", [][]byte{final(opText, textPing)}, []string{"text"}}).check(raw)
}

func TestAFrontThatCannotBeMeantStopsTheStart(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*server.Settings)
		says []string
	}{
		"a wildcard":      {func(s *server.Settings) { s.AllowedOrigins = []string{"https://ok.example", "*"} }, []string{"BRIDGE_ALLOWED_ORIGINS", `"*"`}},
		"a path":          {func(s *server.Settings) { s.AllowedOrigins = []string{"https://ok.example/app"} }, []string{"BRIDGE_ALLOWED_ORIGINS", `"https://ok.example/app"`}},
		"no networks":     {func(s *server.Settings) { s.TrustedProxies = "10.0.0.0/8,proxy" }, []string{"BRIDGE_TRUSTED_PROXIES", `"proxy"`}},
		"everybody":       {func(s *server.Settings) { s.TrustedProxies = "0.0.0.0/0" }, []string{"BRIDGE_TRUSTED_PROXIES", `"0.0.0.0/0"`}},
		"no hops":         {func(s *server.Settings) { s.TrustedProxies = "0" }, []string{"BRIDGE_TRUSTED_PROXIES"}},
		"no header":       {func(s *server.Settings) { s.ClientIPHeader = "X Real IP" }, []string{"BRIDGE_CLIENT_IP_HEADER"}},
		"no prefix":       {func(s *server.Settings) { s.PathPrefix = "bridge/" }, []string{"BRIDGE_PATH_PREFIX"}},
		"no address":      {func(s *server.Settings) { s.MetricsListen = "9091" }, []string{"BRIDGE_METRICS_LISTEN"}},
		"two who name it": {func(s *server.Settings) { s.ProxyProtocol, s.TrustedProxies = "on", "1" }, []string{"BRIDGE_PROXY_PROTOCOL", "BRIDGE_TRUSTED_PROXIES"}},
	} {
		s := testSettings(t.TempDir())
		c.set(&s)
		err := s.Check()
		for _, say := range c.says {
			if err == nil || !strings.Contains(err.Error(), say) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
