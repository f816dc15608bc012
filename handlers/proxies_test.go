package handlers

import (
	"net/netip"
	"strings"
	"testing"
)

func TestProxies(t *testing.T) {
	t.Run("tell the client, which is the last address that no trusted proxy wrote", proxiesTellClient)
	t.Run("that cannot be meant are no setting", proxiesAreRefused)
}

func TestClientNetwork(t *testing.T) {
	t.Run("of an IPv6 address is its /64", clientNetworkOfIPv6)
}

func proxiesTellClient(t *testing.T) {
	const peer = "10.0.0.1"
	for _, c := range []struct {
		trusted, header string
		lines           string // | between
		want            string
	}{
		// Nobody is believed.
		{"", "", "1.1.1.1", peer},
		// A count of hops, over all lines.
		{"1", "", "1.1.1.1", "1.1.1.1"},
		{"1", "", "9.9.9.9, 1.1.1.1", "1.1.1.1"},
		{"1", "", "9.9.9.9|1.1.1.1", "1.1.1.1"},
		{"1", "", "1.1.1.1|9.9.9.9, 2.2.2.2", "2.2.2.2"},
		{"2", "", "9.9.9.9, 1.1.1.1, 10.0.0.2", "1.1.1.1"},
		{"2", "", "9.9.9.9|1.1.1.1|10.0.0.2", "1.1.1.1"},
		{"2", "", "1.1.1.1", "1.1.1.1"},
		{"1", "", "", peer},
		// Networks.
		{"10.0.0.0/8", "", "1.1.1.1", "1.1.1.1"},
		{"10.0.0.0/8", "", "9.9.9.9, 1.1.1.1, 10.0.0.3, 10.0.0.2", "1.1.1.1"},
		{"10.0.0.0/8", "", "9.9.9.9, 1.1.1.1|10.0.0.3|10.0.0.2", "1.1.1.1"},
		{"10.0.0.1, 10.0.0.2", "", "1.1.1.1, 10.0.0.2", "1.1.1.1"},
		{"10.0.0.1,10.0.0.2", "", "1.1.1.1, 10.0.0.3", "10.0.0.3"},
		{"10.9.0.0/16", "", "1.1.1.1", peer},
		{"10.0.0.0/8", "", "10.0.0.4, 10.0.0.3", "10.0.0.4"},
		{"10.0.0.5/8", "", "1.1.1.1", "1.1.1.1"},
		{"::ffff:10.0.0.0/104", "", "1.1.1.1", "1.1.1.1"},
		{"10.0.0.0/8,2001:db8::/32", "", "2001:db9::1, 2001:db8::5", "2001:db9::1"},
		// Ports, brackets, white space, other forms.
		{"1", "", "1.1.1.1:4711", "1.1.1.1"},
		{"1", "", "[2001:db8::1]:4711", "2001:db8::1"},
		{"1", "", "[2001:db8::1]", "2001:db8::1"},
		{"1", "", "2001:DB8:0::1", "2001:db8::1"},
		{"1", "", "::ffff:1.1.1.1", "1.1.1.1"},
		{"1", "", "fe80::1%eth0", "fe80::1"},
		{"1", "", "  1.1.1.1\t", "1.1.1.1"},
		{"1", "", `"1.1.1.1"`, "1.1.1.1"},
		// What is no address.
		{"1", "", "9.9.9.9, unknown", peer},
		{"1", "", "9.9.9.9, ", peer},
		{"1", "", "9.9.9.9, 1.1.1", peer},
		{"1", "", "9.9.9.9, 1.1.1.1:port", peer},
		{"1", "", "<script>", peer},
		{"2", "", "9.9.9.9, unknown, 10.0.0.2", peer},
		{"10.0.0.0/8", "", "9.9.9.9, unknown, 10.0.0.2", peer},
		// Other headers.
		{"", "Fly-Client-IP", "1.1.1.1", "1.1.1.1"},
		{"", "Fly-Client-IP", "2001:db8::1", "2001:db8::1"},
		{"", "Fly-Client-IP", "9.9.9.9|1.1.1.1", "1.1.1.1"},
		{"10.0.0.0/8", "X-Real-IP", "1.1.1.1", "1.1.1.1"},
		{"10.9.0.0/16", "X-Real-IP", "1.1.1.1", peer},
		{"", "Forwarded", "for=1.1.1.1", "1.1.1.1"},
		{"", "forwarded", `For="[2001:db8::1]:4711";proto=https;by=203.0.113.43`, "2001:db8::1"},
		{"", "Forwarded", "for=9.9.9.9, for=1.1.1.1;host=x", "1.1.1.1"},
		{"", "Forwarded", "for=9.9.9.9|proto=http; for=1.1.1.1", "1.1.1.1"},
		{"2", "Forwarded", `for=1.1.1.1;ext="a,b;for=9.9.9.9", for=10.0.0.2`, "1.1.1.1"},
		{"2", "Forwarded", `for=1.1.1.1;ext="a\"b,for=9.9.9.9", for=10.0.0.2`, "1.1.1.1"},
		{"10.0.0.0/8", "Forwarded", "for=1.1.1.1, for=10.0.0.2", "1.1.1.1"},
		{"", "Forwarded", "for=9.9.9.9, for=unknown", peer},
		{"", "Forwarded", "for=9.9.9.9, for=_hidden", peer},
		{"", "Forwarded", "for=9.9.9.9, by=1.1.1.1", peer},
		{"", "Forwarded", `for="1.1.1.1`, peer},
		{"", "Forwarded", `for="9.9.9.9, for=1.1.1.1`, "1.1.1.1"}, // the client's quote has no end
		{"", "Forwarded", `for="9.9.9.9, for="[2001:db8::1]:4711";proto="https"`, "2001:db8::1"},
		{"", "Forwarded", `for="9.9.9.9\, for="1.1.1.1"`, "1.1.1.1"},
		{"", "Forwarded", `"\, for="1.1.1.1:80";by="a\"b\\"`, "1.1.1.1"},
		{"2", "Forwarded", `";for=9.9.9.9, for=1.1.1.1;host="a,b", for=10.0.0.2`, "1.1.1.1"},
		{"", "Forwarded", `for="\1.1.1\.1"`, "1.1.1.1"},
		{"", "Forwarded", `for="1.1.1.1:_http"`, "1.1.1.1"},
		{"", "Forwarded", `for="[2001:db8::1]:_http"`, "2001:db8::1"},
		{"", "Forwarded", `for=_1.1.1.1`, peer},
		{"", "Forwarded", `for="unknown:_http"`, peer},
	} {
		p, err := ParseProxies(c.trusted, c.header)
		if err != nil {
			t.Errorf("%q: %v", c.trusted, err)
			continue
		}
		var lines [][]byte
		if c.lines != "" {
			for l := range strings.SplitSeq(c.lines, "|") {
				lines = append(lines, []byte(l))
			}
		}
		if got := p.client(netip.MustParseAddr(peer), lines); got.String() != c.want {
			t.Errorf("trusted %q, header %q, %s: %s, want %s", c.trusted, c.header, c.lines, got, c.want)
		}
	}
}

func proxiesAreRefused(t *testing.T) {
	for _, c := range [][2]string{{"0", ""}, {" ", ""}, {"-1", ""}, {"33", ""}, {"1.5", ""}, {"10.0.0.0/33", ""}, {"10.0.0.0/8,", ""}, {"1,10.0.0.0/8", ""},
		{"proxy.internal", ""}, {"0.0.0.0/0", ""}, {"::/0", ""}, {"::ffff:0:0/96", ""}, {"::ffff:10.0.0.0/95", ""}, {"::ffff:0.0.0.0/0", ""}, {"fe80::1%eth0", ""}, {"1", "X Forwarded"}, {"", "X-Forwarded-For:"}, {"", "ü"}} {
		if p, err := ParseProxies(c[0], c[1]); err == nil {
			t.Errorf("%q: %+v", c, p)
		}
	}
}

func clientNetworkOfIPv6(t *testing.T) {
	for address, want := range map[string]string{
		"1.1.1.1": "1.1.1.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "::1": "::/64", "no address": "no address",
	} {
		if got := clientNetwork(address); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
	p := newUnauthenticatedLimit(1)
	if _, ok := p.enter("2001:db8::1"); !ok || !p.full("2001:db8::2") || p.full("2001:db8:0:1::1") {
		t.Error("two addresses of one network have two places")
	}
}

func TestPathPrefix(t *testing.T) {
	for prefix, ok := range map[string]bool{"": true, "/bridge": true, "/a/b-c_d.e": true, "bridge": false, "/": false, "/bridge/": false,
		"//a": false, "/a//b": false, "/../a": false, "/a b": false, "/a?b": false, "/%61": false} {
		if err := CheckPathPrefix(prefix); (err == nil) != ok {
			t.Errorf("%q: %v", prefix, err)
		}
	}
	s := &Server{o: Options{PathPrefix: "/bridge"}}
	for uri, want := range map[string]string{
		"/bridge/ws": "/ws", "/bridge/v1/poll?after=/bridge/": "/v1/poll?after=/bridge/", "/bridge/livez": "/livez", "/livez": "/livez", "/metrics?x": "/metrics?x",
		"http://host/bridge/ws?a": "/ws?a", "http://host/livez": "/livez", "/bridge/bridge/ws": "/bridge/ws",
		"/ws": "", "/bridge": "", "/bridges/ws": "", "/livez/x": "", "/": "", "http://host": "", "/Bridge/ws": "", "": "",
	} {
		path, ok := s.routed([]byte(uri))
		if ok != (want != "") || ok && string(path) != want {
			t.Errorf("%s: %s %v", uri, path, ok)
		}
	}
}

// Whatever a client writes before what the proxy adds, the proxy's word counts.
func FuzzForwarded(f *testing.F) {
	f.Add("for=1.1.1.1")
	f.Add(`for="[2001:db8::1]:4711";proto=https, for=unknown`)
	f.Add(`a="\",b`)
	f.Fuzz(func(t *testing.T, s string) {
		for _, header := range []string{forwarded, forwardedFor} {
			p, err := ParseProxies("1", header)
			if err != nil {
				t.Fatal(err)
			}
			added := "198.51.100.1"
			if header == forwarded {
				added = "for=" + added
			}
			for _, lines := range [][][]byte{{[]byte(s), []byte(added)}, {[]byte(s + ", " + added)}} {
				if got := p.client(netip.MustParseAddr("10.0.0.1"), lines); got.String() != "198.51.100.1" {
					t.Fatalf("%s: %q: %s", header, lines, got)
				}
			}
		}
	})
}
