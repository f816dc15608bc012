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
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

func TestClientAddress(t *testing.T) {
	t.Parallel()
	t.Run("is the one that the proxy in front gives", addressOfProxy)
	t.Run("cannot be forged behind a proxy", addressForged)
	t.Run("may stand in other headers", addressHeaders)
	t.Run("may come by the PROXY protocol", addressByProxyProtocol)
	t.Run("has settings that stop the start where they cannot be meant", addressSettings)
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

func addressOfProxy(t *testing.T) {
	t.Parallel()
	w := start(t, func(s *server.Settings) { s.ConnectRate, s.ClientIPHeader = 0.01, "X-Forwarded-For" })
	for i, c := range []struct {
		header string
		status int
	}{{"10.0.0.1", 200}, {"10.0.0.1", 429}, {"10.0.0.2", 200}, {"10.0.0.3, 10.0.0.2", 429}, {"", 200}, {"", 429}} {
		req, err := http.NewRequest("GET", w.base+"/v1/poll?waitMs=0", nil)
		expect.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token(t, "patient-1", time.Hour, ""))
		req.Header.Set("X-Forwarded-For", c.header)
		if a := w.do(req); a.HTTP != c.status {
			t.Errorf("%d: %q: %d %s", i, c.header, a.HTTP, a.Raw)
		}
	}
}

// A client that writes X-Forwarded-For itself neither gets past the limits of its
// address nor into the audit log as somebody else.
func addressForged(t *testing.T) {
	t.Parallel()
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

func addressHeaders(t *testing.T) {
	t.Parallel()
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

func addressByProxyProtocol(t *testing.T) {
	t.Parallel()
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

func addressSettings(t *testing.T) {
	t.Parallel()
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
