package callback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"hookbridge/app/bridge"
)

func TestAddress(t *testing.T) {
	t.Run("is judged by the host of the URL", addressByHost)
	t.Run("of a name is judged again when it is dialled", addressAtDial)
	t.Run("is judged for each of several that a name has", addressOfSeveral)
	t.Run("that a name does not have, or not in time, fails a post", addressOfNone)
}

func addressByHost(t *testing.T) {
	for _, c := range []struct {
		addresses                           string
		public, internal, private, loopback bool
	}{
		{"93.184.216.34 2606:2800:220:1::1 ::ffff:93.184.216.34 64:ff9b::93.184.216.34", true, true, false, false},
		{"10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 fd00::1 fdaa:0:1::3 ::ffff:10.0.0.1 64:ff9b::10.0.0.1", false, true, true, false},
		{"127.0.0.1 127.8.8.8 ::1 ::ffff:127.0.0.1", false, false, false, true},
		{"64:ff9b::127.0.0.1", false, false, false, true},
		{"169.254.169.254 169.254.1.1 fe80::1 fe80::1%eth0 ::ffff:169.254.169.254 64:ff9b::169.254.169.254", false, false, false, false},
		{"fd00:ec2::254 fd00:ec2::254%eth0 fd00:ec2::23 fd00:42::42 fd20:ce::254 100.100.100.200 168.63.129.16 192.0.0.192", false, false, false, false},
		{"0.0.0.0 0.1.2.3 :: ::ffff:0.0.0.0 224.0.0.1 239.1.1.1 ff02::1 255.255.255.255 240.0.0.1 198.18.0.1 192.88.99.1 203.0.113.1", false, false, false, false},
		{"::127.0.0.1 64:ff9b:1::1 2002:7f00:1::1 2001:0:7f00:1::1 2001:db8::1 fec0::1 100::1 ::ffff:0:7f00:1 3fff::1 2001:20::1 5f00::1 192.0.0.8 192.0.2.1 198.51.100.1 198.19.255.255 255.255.255.254", false, false, false, false},
	} {
		for text := range strings.FieldsSeq(c.addresses) {
			a := netip.MustParseAddr(text)
			for r, want := range map[reach]bool{reachPublic: c.public, reachInternal: c.internal, reachPrivate: c.private, reachLoopback: c.loopback, reachAny: true} {
				if got := r.allows(a); got != want {
					t.Errorf("%s for %d: %v", a, r, got)
				}
				if err := r.control(t.Context(), "tcp", netip.AddrPortFrom(a, 443).String(), nil); (err == nil) != want {
					t.Errorf("dialling %s for %d: %v", a, r, err)
				}
			}
		}
	}
	if reachPublic.control(t.Context(), "tcp", "clinic.example:443", nil) == nil {
		t.Error("a name was dialled")
	}
}

func TestBackendURL(t *testing.T) {
	for text, want := range map[string]struct {
		reach
		wrong string
	}{
		"https://clinic.example/hook?x=1":                  {reachPublic, ""},
		"https://user:pass@clinic.example":                 {reachPublic, ""},
		"https://CLINIC.example.:8443/":                    {reachPublic, ""},
		"https://93.184.216.34/":                           {reachPublic, ""},
		"https://127.1/":                                   {reachPublic, ""}, // a name to us; what it resolves to is judged
		"https://2130706433/":                              {reachPublic, ""}, // so is 127.0.0.1 in one number
		"https://0x7f.1/":                                  {reachPublic, ""},
		"http://2130706433/":                               {0, "must be https"},
		"https://klinik-köln.example/":                     {reachPublic, ""},
		"https://xn--klinik-kln-jcb.example/":              {reachPublic, ""},
		"https://localhost。/":                              {reachPublic, ""}, // a dot of another script: a name, and judged when it is dialled
		"http://localhost。/":                               {0, "must be https"},
		"http://localhost.:9000":                           {reachLoopback, ""},
		"http://LOCALHOST.":                                {reachLoopback, ""},
		"http://localhost..":                               {0, "is not valid"},
		"https://clinic..example/":                         {0, "is not valid"},
		"https://.clinic.example/":                         {0, "is not valid"},
		"https://./":                                       {0, "is not valid"},
		"http://.internal/":                                {0, "is not valid"},
		"https://*.example/":                               {0, "is not valid"},
		"https://can\"ary/":                                {0, "is not valid"},
		"https://canary!.example/":                         {0, "is not valid"},
		"https://my_backend:3000/":                         {reachPublic, ""},
		"http://my-backend.flycast/":                       {0, "must be https"},
		"http://x.internal.clinic.example/":                {0, "must be https"},
		"http://xinternal/":                                {0, "must be https"},
		"http://X.INTERNAL:8080":                           {reachPrivate, ""},
		"http://clinic.localhost/":                         {0, "must be https"},
		"https://clinic.localhost/":                        {reachPublic, ""}, // a name; what it resolves to is judged
		"http://[::1%25lo]/":                               {0, "must be https"},
		"https://[fe80::1%25eth0]/":                        {0, "not a public one"},
		"http://[::1%25\x89]/":                             {0, "is not valid"},
		"https://" + strings.Repeat("a", 63) + ".example/": {reachPublic, ""},
		"https://" + strings.Repeat("a", 64) + ".example/": {0, "is not valid"},
		"https://" + strings.Repeat(strings.Repeat("a", 62)+".", 4) + "example":                {0, "is not valid"},
		"https://clinic.example/" + strings.Repeat("a", maxURL-len("https://clinic.example/")): {reachPublic, ""},
		"https://clinic.example/" + strings.Repeat("canary", maxURL):                           {0, "at most 8192"},
		"//clinic.example/":                     {0, "neither https nor http"},
		"/canary":                               {0, "is not valid"},
		"https://clinic.example/a\r\nb: canary": {0, "is not valid"},
		" https://clinic.example/canary":        {0, "is not valid"},
		"HTTPS://CLINIC.EXAMPLE":                {reachPublic, ""},
		"https://clinic.example:00443/":         {reachPublic, ""},
		"https://0177.0.0.1/":                   {reachPublic, ""}, // octal to some resolvers: judged when it is dialled
		"https://[::ffff:10.0.0.1]/":            {0, "not a public one"},
		"https://[::ffff:169.254.169.254]/":     {0, "not a public one"},
		"https://user:p@ss@clinic.example/":     {reachPublic, ""},
		"https://clinic.example:65535/":         {reachPublic, ""},
		"https://clinic.example:99999/":         {0, "port"},
		"https://clinic.example:-1/":            {0, "is not valid"},
		"https://clinic.example:http/":          {0, "is not valid"},
		"https://clinic.example:/":              {reachPublic, ""},
		"https://notinternal/":                  {reachPublic, ""},
		"http://localhost:9000":                 {reachLoopback, ""},
		"http://127.0.0.1:9000/x":               {reachLoopback, ""},
		"http://[::1]:9000/":                    {reachLoopback, ""},
		"http://Clinic.Internal./hook":          {reachPrivate, ""},
		"https://clinic.internal":               {reachInternal, ""},
		"http://clinic.example/":                {0, "must be https"},
		"http://localhost.example/":             {0, "must be https"},
		"http://internal/":                      {0, "must be https"},
		"https://10.0.0.1/":                     {0, "not a public one"},
		"https://[fd00:ec2::254]/":              {0, "not a public one"},
		"https://169.254.169.254/latest":        {0, "not a public one"},
		"https://[::ffff:127.0.0.1]/":           {reachLoopback, ""},
		"https://[64:ff9b::7f00:1]/":            {0, "not a public one"},
		"https://clinic.example/#frag":          {0, "has a #"},
		"https://clinic.example/#":              {0, "has a #"},
		"https://clinic.example:0/":             {0, "port"},
		"https://clinic.example:000/":           {0, "port"},
		"https://clinic.example:70000/":         {0, "port"},
		"ftp://clinic.example/":                 {0, "neither https nor http"},
		"clinic.example/hook":                   {0, "is not valid"},
		"":                                      {0, "is not valid"},
		"https://":                              {0, "is not valid"},
		"https://:443/":                         {0, "is not valid"},
		"https:clinic.example":                  {0, "is not valid"},
		"https://canary:4711canary":             {0, "is not valid"},
		"https://clinic.example/%zz":            {0, "is not valid"},
		"https://user:canary@\x00/":             {0, "is not valid"},
	} {
		_, r, err := parseURL(text, false)
		if (err == nil) != (want.wrong == "") || err != nil && !strings.Contains(err.Error(), want.wrong) || r != want.reach {
			t.Errorf("%s: %d %v", text, r, err)
		}
		if err != nil && (strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("the error repeats the URL or has lines: %v", err)
		}
		if want.wrong == "must be https" || want.wrong == "not a public one" {
			if err := CheckURL(text, true); err != nil {
				t.Errorf("%s, where all is allowed: %v", text, err)
			}
		}
	}
}

// FuzzBackendURL holds whatever is taken as a backend's URL to be one that can be posted to, at
// an address that its host allows; and what is refused to be told in one line without the URL.
func FuzzBackendURL(f *testing.F) {
	for _, seed := range []string{"https://clinic.example/hook?x=1", "http://localhost.:9000", "http://[::1%25lo]/", "http://[::1%25\x89]", "https://u:p@[fd00::1]:443/", "https://klinik-köln.example", "https://a:0", "http://0177.1/", "https://a/%zz"} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, text string, allowPrivate bool) {
		b := backend("default", text)
		e, err := newEndpoint(b, allowPrivate)
		if checked := CheckURL(text, allowPrivate); (checked == nil) != (err == nil) {
			t.Fatalf("%q: %v, then %v", text, checked, err)
		}
		if err != nil {
			if said := err.Error(); strings.ContainsAny(said, "\r\n") || len(text) > 60 && strings.Contains(said, text) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		req, err := http.NewRequest(http.MethodPost, e.url, nil)
		if err != nil {
			t.Fatalf("%q is taken, and cannot be posted to: %v", text, err)
		}
		if req.URL.User != nil || req.URL.Fragment != "" || !isHost(req.URL.Hostname()) || req.URL.Scheme != "https" && req.URL.Scheme != "http" {
			t.Errorf("%q is taken as %q", text, e.url)
		}
		if a, err := netip.ParseAddr(req.URL.Hostname()); err == nil && !allowPrivate && !reachPublic.allows(a) && !a.Unmap().IsLoopback() {
			t.Errorf("%q is taken, at %s", text, a)
		}
	})
}

// names is a resolver whose answer for every name is that of its function: addresses with
// blanks between, or the number of an error.
func names(answer func() string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			for {
				var size [2]byte
				if _, err := io.ReadFull(server, size[:]); err != nil {
					return
				}
				b := make([]byte, int(size[0])<<8+int(size[1]))
				var m dnsmessage.Message
				if _, err := io.ReadFull(server, b); err != nil || m.Unpack(b) != nil {
					return
				}
				m.Response, m.Authoritative, m.Additionals = true, true, nil
				q := m.Questions[0]
				for text := range strings.FieldsSeq(answer()) {
					if code, err := strconv.ParseUint(text, 10, 4); err == nil {
						m.RCode = dnsmessage.RCode(code)
						continue
					}
					a, header := netip.MustParseAddr(text), dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}
					switch {
					case q.Type == dnsmessage.TypeA && a.Is4():
						m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
					case q.Type == dnsmessage.TypeAAAA && a.Is6():
						m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
					}
				}
				if b, _ = m.Pack(); len(b) == 0 {
					return
				}
				if _, err := server.Write(append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)); err != nil {
					return
				}
			}
		}()
		return client, nil
	}}
}

// A name that was good when somebody looked, and another address when it is dialled.
func addressAtDial(t *testing.T) {
	s, l := sender(t, backend("default", "https://clinic.example/hook"))
	d := s.byName["default"].endpoint.dialer
	var now atomic.Value
	d.Resolver = names(func() string { return now.Load().(string) })
	// What is allowed is not dialled either: a test talks to nobody.
	errAllowed := errors.New("it would be dialled")
	judge := d.ControlContext
	d.ControlContext = func(ctx context.Context, network, address string, c syscall.RawConn) error {
		if err := judge(ctx, network, address, c); err != nil {
			return err
		}
		return errAllowed
	}
	for _, c := range []struct {
		address string
		allowed bool
	}{{"93.184.216.34", true}, {"169.254.169.254", false}, {"127.0.0.1", false}, {"fd00:ec2::254", false}, {"64:ff9b::a9fe:a9fe", false}, {"2606:2800:220:1::1", true}, {"::1", false}} {
		now.Store(c.address)
		_, err := s.byName["default"].endpoint.post(t.Context(), "msg_1", []byte("{}"), 0)
		if errors.Is(err, errAllowed) != c.allowed || errors.Is(err, errAddress) == c.allowed {
			t.Errorf("%s: %v", c.address, err)
		}
		_, _, err = s.Request(t.Context(), "default", "msg_1", []byte("{}"), 5*time.Second)
		var failed *bridge.BackendError
		if !errors.As(err, &failed) || failed.Status != 0 || (failed.Why == "its address is not allowed") == c.allowed {
			t.Errorf("%s: %v", c.address, err)
		}
	}
	stop(s)
	if strings.Contains(l.String(), "169.254") {
		t.Error(l)
	}
}

// A name with a good address that does not answer and a bad one: the dialler goes on to the
// second, which is judged, too. The address that is judged is the one that is dialled: there
// is no second look at the name between.
func addressOfSeveral(t *testing.T) {
	s, _ := sender(t, backend("default", "https://clinic.example/hook"))
	defer stop(s)
	d := s.byName["default"].endpoint.dialer
	lookups := atomic.Int64{}
	d.Resolver = names(func() string {
		lookups.Add(1)
		return "93.184.216.34 169.254.169.254 10.0.0.1"
	})
	judge := d.ControlContext
	var judged []string
	d.ControlContext = func(ctx context.Context, network, address string, c syscall.RawConn) error {
		judged = append(judged, address)
		if err := judge(ctx, network, address, c); err != nil {
			return err
		}
		return syscall.ECONNREFUSED // a test talks to nobody
	}
	if _, err := s.byName["default"].endpoint.post(t.Context(), "msg_1", []byte("{}"), 0); err == nil {
		t.Error("it was sent")
	}
	slices.Sort(judged)
	if fmt.Sprint(judged) != "[10.0.0.1:443 169.254.169.254:443 93.184.216.34:443]" || lookups.Load() > 2 {
		t.Errorf("judged %v after %d questions", judged, lookups.Load())
	}
}

func addressOfNone(t *testing.T) {
	const unresolved = "its name could not be resolved"
	ended := make(chan struct{})
	defer close(ended)
	for name, c := range map[string]struct {
		answer func() string
		why    string
	}{
		"there is no such name":        {func() string { return "3" }, unresolved},
		"the server fails":             {func() string { return "2" }, unresolved},
		"the server refuses":           {func() string { return "5" }, unresolved},
		"it has no addresses":          {func() string { return "" }, unresolved},
		"it has many, and all are bad": {func() string { return strings.Repeat("10.0.0.1 ", 100) + strings.Repeat("::1 ", 100) }, "its address is not allowed"},
		"nobody answers":               {func() string { <-ended; return "" }, "it took too long"},
	} {
		s, _ := sender(t, backend("default", "https://clinic.example/hook"))
		defer stop(s)
		s.byName["default"].endpoint.dialer.Resolver = names(c.answer)
		timeout := 10 * time.Second
		if c.why == "it took too long" {
			timeout = 50 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		r, err := s.byName["default"].endpoint.post(ctx, "msg_1", []byte("{}"), 0)
		if cancel(); err == nil || r.last() != c.why || !r.backendAtFault() {
			t.Errorf("%s: a callback: %q %v", name, r.last(), err)
		}
		_, _, err = s.Request(t.Context(), "default", "msg_1", []byte("{}"), timeout)
		var failed *bridge.BackendError
		if timeout < time.Second && !errors.Is(err, bridge.ErrBackendTimeout) || timeout > time.Second && (!errors.As(err, &failed) || failed.Status != 0 || failed.Why != c.why) {
			t.Errorf("%s: a request: %v", name, err)
		}
	}
}
