package callback

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hookbridge/app/bridge"
	"hookbridge/app/expect"
)

// authority is one that the test's sender trusts.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	expect.NoError(t, err)
	a := &authority{t: t, key: key}
	a.cert = a.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}, &x509.Certificate{}, key)
	return a
}

// sign makes a certificate for a key.
func (a *authority) sign(c, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.Subject = pkix.Name{CommonName: "a test"}
	if parent.Raw == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, a.key)
	expect.NoError(a.t, err)
	signed, err := x509.ParseCertificate(der)
	expect.NoError(a.t, err)
	return signed
}

// leaf is a server's certificate, which change may spoil.
func (a *authority) leaf(change func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	c := &x509.Certificate{
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	change(c)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	expect.NoError(a.t, err)
	return tls.Certificate{Certificate: [][]byte{a.sign(c, a.cert, key).Raw}, PrivateKey: key}
}

// What becomes of a request and of a callback with each kind of TLS.
func TestTLS(t *testing.T) {
	const broken = "its TLS is broken or its certificate not valid"
	a := newAuthority(t)
	good := a.leaf(func(*x509.Certificate) {})
	with := func(certs ...tls.Certificate) func(*tls.Config) {
		return func(c *tls.Config) { c.Certificates = certs }
	}
	versions := func(least, most uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.MinVersion, c.MaxVersion = least, most }
	}
	other := newAuthority(t)
	for name, c := range map[string]struct {
		change func(*tls.Config)
		why    string
	}{
		"1.3":                                    {versions(tls.VersionTLS13, tls.VersionTLS13), ""},
		"1.2":                                    {versions(tls.VersionTLS12, tls.VersionTLS12), ""},
		"1.1":                                    {versions(tls.VersionTLS10, tls.VersionTLS11), broken},
		"1.0":                                    {versions(tls.VersionTLS10, tls.VersionTLS10), broken},
		"of an expired certificate":              {with(a.leaf(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })), broken},
		"of a certificate that is not valid yet": {with(a.leaf(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })), broken},
		"of another host": {with(a.leaf(func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = nil, []string{"clinic.example"}
		})), broken},
		"of a certificate for clients":           {with(a.leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })), broken},
		"of an authority that nobody trusts":     {with(other.leaf(func(*x509.Certificate) {})), broken},
		"of a certificate that it signed itself": {with(tls.Certificate{Certificate: [][]byte{other.cert.Raw}, PrivateKey: other.key}), broken},
		"without a certificate": {func(c *tls.Config) {
			c.Certificates = nil
			c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") }
		}, broken},
		"of a protocol that nobody asked for": {func(c *tls.Config) { c.NextProtos = []string{"spdy/3"} }, broken},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(replies(200, "{}"))
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.TLS = &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: []string{"http/1.1"}}
			c.change(server.TLS)
			ln := tls.NewListener(server.Listener, server.TLS)
			server.Listener = ln
			server.Start()
			defer server.Close()
			s, _ := sender(t, backend("default", "https://"+ln.Addr().String()))
			defer stop(s)
			e := s.byName["default"].endpoint
			e.tls.RootCAs = x509.NewCertPool()
			e.tls.RootCAs.AddCert(a.cert)
			r, err := e.post(t.Context(), "msg_1", []byte("{}"), 0)
			if (err == nil) != (c.why == "") || err != nil && (r.last() != c.why || !r.backendAtFault()) {
				t.Errorf("a callback: %q %v", r.last(), err)
			}
			status, _, err := s.Request(t.Context(), "default", "msg_1", []byte("{}"), 10*time.Second)
			var failed *bridge.BackendError
			if c.why == "" && (err != nil || status != http.StatusOK) || c.why != "" && (!errors.As(err, &failed) || failed.Status != 0 || failed.Why != c.why) {
				t.Errorf("a request: %d %v", status, err)
			}
		})
	}
}

// silent is a listener that takes connections and says nothing.
func silent(t *testing.T) (address string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	expect.NoError(t, err)
	var conns []net.Conn
	ended := accepting(ln, func(conn net.Conn) { conns = append(conns, conn) })
	t.Cleanup(func() {
		ln.Close()
		<-ended
		for _, c := range conns {
			c.Close()
		}
	})
	return ln.Addr().String()
}

func TestTLSHandshake(t *testing.T) {
	t.Run("that ends early is told as one", handshakeEnds)
	t.Run("that hangs ends a try and a request in their time", func(t *testing.T) {
		s, _ := sender(t, backend("default", "https://"+silent(t)))
		defer stop(s)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		r, err := s.byName["default"].endpoint.post(ctx, "msg_1", []byte("{}"), 0)
		if !errors.Is(err, context.DeadlineExceeded) || r.last() != "it took too long" || !r.backendAtFault() {
			t.Errorf("%q %v", r.last(), err)
		}
		if _, _, err := s.Request(t.Context(), "default", "msg_1", nil, 50*time.Millisecond); !errors.Is(err, bridge.ErrBackendTimeout) {
			t.Error(err)
		}
	})
	t.Run("has a time of its own", func(t *testing.T) {
		s, _ := sender(t, backend("default", "https://"+silent(t)))
		defer stop(s)
		e := s.byName["default"].endpoint
		if e.handshakeTimeout != connectTimeout || connectTimeout >= tryTimeout {
			t.Errorf("it may take %s", e.handshakeTimeout)
		}
		e.handshakeTimeout = 50 * time.Millisecond
		r, err := s.byName["default"].endpoint.post(t.Context(), "msg_1", []byte("{}"), 0)
		if err == nil || r.last() != "it took too long" {
			t.Errorf("%q %v", r.last(), err)
		}
		_, _, err = s.Request(t.Context(), "default", "msg_1", nil, 30*time.Second)
		var failed *bridge.BackendError
		if !errors.As(err, &failed) || failed.Status != 0 || failed.Why != "it took too long" {
			t.Error(err)
		}
	})
}

// handshakeEnds has a backend that closes the connection in the middle of the handshake, or says
// what is no TLS.
func handshakeEnds(t *testing.T) {
	for name, first := range map[string]string{
		"with nothing": "", "with half a record": "\x16\x03\x03\x00\x40\x02\x00", "with an alert": "\x15\x03\x03\x00\x02\x02\x28", "with HTML": "HTTP/1.1 400 Bad Request\r\n\r\n<html>" + canary,
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			expect.NoError(t, err)
			ended := accepting(ln, func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 4096)) // the client's hello
				_, _ = io.WriteString(conn, first)
				conn.Close()
			})
			s, l := sender(t, backend("default", "https://"+ln.Addr().String()))
			r, err := s.byName["default"].endpoint.post(t.Context(), "msg_1", []byte("{}"), 0)
			if err == nil || r.last() != "its TLS is broken or its certificate not valid" {
				t.Errorf("%q %v", r.last(), err)
			}
			stop(s)
			ln.Close()
			<-ended
			if strings.Contains(l.String(), canary) {
				t.Error(l)
			}
		})
	}
}
