package handlers

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"hookbridge/app/wire"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// Origins is the allow-list of origins that may connect, beside the bridge's own.
type Origins struct {
	exact map[string]bool
	// wild holds what must follow the first label: "https://.example.com" for the entry
	// "https://*.example.com".
	wild map[string]bool
}

// opaque is the origin that sandboxed frames, files and data: pages send.
const opaque = "null"

// ParseOrigins reads the entries of an allow-list: origins
// ("https://app.example"), schemes of apps ("capacitor://localhost"), all
// subdomains of one level ("https://*.example.com") and "null". Its error names an entry
// that no client can match, and says why.
func ParseOrigins(entries []string) (Origins, error) {
	o := Origins{exact: make(map[string]bool), wild: make(map[string]bool)}
	for _, entry := range entries {
		if err := o.add(strings.TrimSpace(entry)); err != nil {
			return Origins{}, fmt.Errorf("%q: %w", entry, err)
		}
	}
	return o, nil
}

func (o *Origins) add(entry string) error {
	if entry == opaque {
		o.exact[opaque] = true
		return nil
	}
	if entry == "*" {
		return errors.New("any origin cannot be allowed: list those of your pages and apps")
	}
	scheme, rest, ok := strings.Cut(entry, "://*.")
	if ok {
		n, err := normalOrigin(scheme + "://" + rest)
		switch {
		case err != nil:
			return err
		case n.scheme != "https" && n.scheme != "http":
			return errors.New("*. stands for one label of a host name, which only http and https have")
		case !strings.Contains(n.host, ".") && n.host != "localhost":
			return errors.New("behind *. must be a domain of yours, like *.example.com")
		case isIP(n.host):
			return errors.New("*. stands for one label of a host name, and this is an address")
		case isRegistry(n.host):
			return errors.New("anybody can register a name under it: behind *. must be a domain of yours, like *.example.com")
		}
		o.wild[n.scheme+"://."+n.hostPort()] = true
		return nil
	}
	if strings.Contains(entry, "*") {
		return errors.New("a * may stand for the first label alone, as in https://*.example.com")
	}
	n, err := normalOrigin(entry)
	if err != nil {
		return err
	}
	o.exact[n.String()] = true
	return nil
}

// allows reports whether a request with this Origin, sent to this Host, may connect.
// Behind a proxy the request's scheme is not known, so that a page is the bridge's own
// where host and port are. React Native on Android sends the bridge's own origin from
// any app.
func (o *Origins) allows(origin, host string) bool {
	if origin == opaque {
		return o.exact[opaque]
	}
	n, err := normalOrigin(origin)
	if err != nil {
		return false
	}
	if o.exact[n.String()] {
		return true
	}
	if label, rest, ok := strings.Cut(n.host, "."); ok && label != "" && !isIP(n.host) {
		r := n
		r.host = rest
		if o.wild[n.scheme+"://."+r.hostPort()] {
			return true
		}
	}
	if n.scheme != "http" && n.scheme != "https" {
		return false
	}
	own, err := normalOrigin(n.scheme + "://" + host)
	return err == nil && own == n
}

// originParts is an origin in a form that can be compared.
type originParts struct {
	scheme string
	host   string // lower case; a name in its ASCII form
	port   string // empty where it is the scheme's own
}

func (n originParts) hostPort() string {
	host := n.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if n.port == "" {
		return host
	}
	return host + ":" + n.port
}

// String is the origin as browsers write it.
func (n originParts) String() string { return n.scheme + "://" + n.hostPort() }

// neverSent are schemes that no Origin has. The value is what their pages send instead, or
// the scheme that was meant.
var neverSent = map[string]string{
	"ws": "http", "wss": "https", // what is meant
	"data": opaque, "blob": opaque, "about": opaque, "javascript": opaque,
	"ftp": "", "mailto": "",
}

func normalOrigin(s string) (n originParts, err error) {
	u, err := url.Parse(s)
	if err != nil {
		return n, errors.New("it is no URL") // the error would repeat it
	}
	meant, never := neverSent[strings.ToLower(u.Scheme)]
	switch {
	case u.Scheme == "" || !strings.Contains(s, "://"):
		return n, errors.New("the scheme is missing: an origin is like https://app.example")
	case never && meant == opaque:
		return n, errors.New(`pages of this scheme send the origin "null"`)
	case never && meant != "":
		return n, errors.New("an origin is the page's, not the socket's: begin it with " + meant + "://")
	case never:
		return n, errors.New("no browser and no app sends this scheme")
	case u.User != nil, u.Path != "", u.RawQuery != "" || u.ForceQuery, u.Fragment != "" || strings.HasSuffix(s, "#"):
		return n, errors.New("an origin is a scheme, a host and a port, with nothing behind: https://app.example")
	}
	n.scheme = strings.ToLower(u.Scheme)
	web := n.scheme == "http" || n.scheme == "https"
	if n.host, err = normalHost(u.Hostname(), web); err != nil {
		return n, err
	}
	if n.host == "" && (n.scheme != "file" || u.Host != "") { // an Android WebView sends file:// and no more
		return n, errors.New("the host is missing: an origin is like https://app.example or capacitor://localhost")
	}
	if u.Port() != "" {
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || port == 0 {
			return n, errors.New("a port is a number from 1 to 65535")
		}
		if !(n.scheme == "https" && port == 443 || n.scheme == "http" && port == 80) {
			n.port = strconv.FormatUint(port, 10)
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return n, errors.New("the port is missing behind the colon")
	}
	return n, nil
}

// hostNames turns a name as people write it into what browsers send (UTS #46).
var hostNames = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false))

func normalHost(host string, web bool) (string, error) {
	if strings.ContainsFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) {
		ascii, err := hostNames.ToASCII(host)
		if err != nil {
			return "", errors.New("the host is no domain name")
		}
		host = ascii
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String(), nil
	}
	also := "-._"
	if !web {
		also = "-._~+"
	}
	if !wire.Alphanumeric(host, also) {
		return "", errors.New("the host has a character that no host has")
	}
	if web && (strings.HasPrefix(host, ".") || strings.Contains(host, "..")) {
		return "", errors.New("the host has an empty label")
	}
	return strings.ToLower(host), nil
}

// isRegistry reports whether anybody can register names under this one, like co.uk.
func isRegistry(host string) bool {
	suffix, icann := publicsuffix.PublicSuffix(strings.TrimSuffix(host, "."))
	return icann && suffix == strings.TrimSuffix(host, ".")
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// originAllowed holds a browser to the allow-list; a client without Origin is no browser.
// Two Origin headers are refused: no browser sends them, and only one would be checked.
func (s *Server) originAllowed(c *fiber.Ctx) bool {
	if len(c.Request().Header.PeekAll(fiber.HeaderOrigin)) > 1 {
		return false
	}
	origin := c.Get(fiber.HeaderOrigin)
	return origin == "" || s.o.Origins.allows(origin, string(c.Request().Host()))
}

const (
	corsMethods = "GET,HEAD,POST,PUT,DELETE"
	// corsHeaders are the headers that we read, and those that tracing and HTTP
	// libraries add to a page's requests. Nobody knows all of the latter, so that any
	// other header that a page asks for is allowed as well: it has no effect here.
	corsHeaders = "Authorization,Content-Type,Last-Event-ID,traceparent,tracestate,baggage,sentry-trace,x-requested-with,cache-control"
	// corsSeconds is how long a browser may cache a preflight: Chromium's maximum.
	corsSeconds = "7200"
)

// cors holds browsers to the allow-list and answers their preflights (the Fetch
// standard's CORS protocol). Tokens come in a header and never in a cookie, so that
// credentials are not allowed.
func (s *Server) cors(c *fiber.Ctx) error {
	if err := s.allowOrigin(c); err != nil {
		return err
	}
	if c.Get(fiber.HeaderOrigin) == "" {
		return c.Next()
	}
	if c.Method() == fiber.MethodOptions && c.Get(fiber.HeaderAccessControlRequestMethod) != "" {
		c.Vary(fiber.HeaderAccessControlRequestMethod, fiber.HeaderAccessControlRequestHeaders)
		c.Set(fiber.HeaderAccessControlAllowMethods, corsMethods)
		c.Set(fiber.HeaderAccessControlAllowHeaders, allowedHeaders(c.Get(fiber.HeaderAccessControlRequestHeaders)))
		c.Set(fiber.HeaderAccessControlMaxAge, corsSeconds)
		return c.SendStatus(fiber.StatusNoContent)
	}
	c.Set(fiber.HeaderAccessControlExposeHeaders, fiber.HeaderRetryAfter)
	return c.Next()
}

// allowOrigin has the page of a request read the reply, or refuses the page.
func (s *Server) allowOrigin(c *fiber.Ctx) error {
	c.Vary(fiber.HeaderOrigin)
	if !s.originAllowed(c) {
		return errOrigin
	}
	if origin := c.Get(fiber.HeaderOrigin); origin != "" {
		c.Set(fiber.HeaderAccessControlAllowOrigin, origin) // as it came: browsers compare byte by byte
	}
	return nil
}

// maxAskedHeaders bounds how much of a preflight's list is repeated, bytes.
const maxAskedHeaders = 1024

// allowedHeaders are corsHeaders and those that a page asks for.
func allowedHeaders(asked string) string {
	var more strings.Builder
	for name := range strings.SplitSeq(asked, ",") {
		name = strings.Trim(name, " \t")
		if name != "" && wire.Alphanumeric(name, "-_") && more.Len()+len(name) < maxAskedHeaders {
			more.WriteByte(',')
			more.WriteString(name)
		}
	}
	return corsHeaders + more.String()
}
