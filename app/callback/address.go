package callback

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"code.dny.dev/ssrf"
)

// reach is which addresses a backend may be at. It follows from the host in its URL.
type reach uint8

const (
	reachPublic   reach = iota // the internet
	reachInternal              // a host under .internal: the internet and private networks
	reachPrivate               // the same without TLS: private networks alone
	reachLoopback              // localhost, 127.0.0.0/8 or [::1]: this machine alone
	reachAny                   // BRIDGE_CALLBACK_ALLOW_PRIVATE
)

// errAddress is the error of a dial to an address that the backend must not be at.
var errAddress = errors.New("the address is not allowed")

// metadata are addresses at which clouds hand out a machine's credentials, beside
// those that are link-local: no backend is there, in no network.
var metadata = []netip.Prefix{
	netip.MustParsePrefix("fd00:ec2::/32"),      // AWS: instances, and the pods of its Kubernetes
	netip.MustParsePrefix("fd20:ce::254/128"),   // Google Cloud
	netip.MustParsePrefix("fd00:42::42/128"),    // Scaleway
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba Cloud
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure
}

// maxURL bounds a backend's URL, bytes: about what servers take in a request's first line.
const maxURL = 8 << 10

var (
	public   = ssrf.New(ssrf.WithAnyPort())
	internal = ssrf.New(ssrf.WithAnyPort(),
		ssrf.WithAllowedV4Prefixes(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
			netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("100.64.0.0/10")),
		ssrf.WithAllowedV6Prefixes(netip.MustParsePrefix("fc00::/7")))
)

// allows judges an address. An IPv4 address that is written inside an IPv6 one
// (IPv4-mapped, NAT64) is judged as what it leads to.
func (r reach) allows(a netip.Addr) bool {
	if r == reachAny {
		return true
	}
	a = a.Unmap()
	if ssrf.IPv6NAT64Prefix.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	for _, m := range metadata {
		if m.Contains(a.WithZone("")) {
			return false
		}
	}
	switch r {
	case reachLoopback:
		return a.IsLoopback()
	case reachInternal:
		return internal.SafeAddr(a) == nil
	case reachPrivate:
		return internal.SafeAddr(a) == nil && public.SafeAddr(a) != nil
	}
	return public.SafeAddr(a) == nil
}

// control is a net.Dialer's ControlContext: it is called with the very address that
// is about to be dialled, so that a name which resolves to another address the next
// time gains nothing.
func (r reach) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !r.allows(at.Addr()) {
		return errAddress
	}
	return nil
}

// CheckURL says what is wrong with a backend's URL, without repeating what may be
// secret in it.
func CheckURL(text string, allowPrivate bool) error {
	_, _, err := parseURL(text, allowPrivate)
	return err
}

// parseURL reads a backend's URL.
func parseURL(text string, allowPrivate bool) (*url.URL, reach, error) {
	const form = "it must be an address like https://clinic.example/hookbridge"
	if len(text) > maxURL {
		return nil, 0, fmt.Errorf("the URL has %d bytes; at most %d are allowed", len(text), maxURL)
	}
	u, err := url.Parse(text) // its error would repeat the text
	if text == "" || err != nil || u.Host == "" || !isHost(u.Hostname()) || u.Opaque != "" {
		return nil, 0, errors.New("the URL is not valid: " + form)
	}
	if strings.Contains(text, " ") { // url.Parse makes %20 of one in the path, and refuses every other white space
		return nil, 0, errors.New("the URL has a blank in it: take it away, or percent-encode it as %20")
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return nil, 0, errors.New("the URL is neither https nor http: " + form)
	}
	if u.Fragment != "" || strings.Contains(text, "#") {
		return nil, 0, errors.New("the URL has a #: what follows it is never sent; percent-encode it as %23")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, 0, errors.New("the URL's port must be a number from 1 to 65535")
		}
	}
	r := reachOf(u.Hostname())
	switch {
	case allowPrivate:
		r = reachAny
	case u.Scheme == "http" && r == reachInternal:
		r = reachPrivate
	}
	if u.Scheme == "http" && r == reachPublic {
		return nil, 0, errors.New("the URL must be https: http is only for localhost, hosts under .internal, and where BRIDGE_CALLBACK_ALLOW_PRIVATE is set")
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && !r.allows(a) {
		return nil, 0, fmt.Errorf("the URL's address %s is not a public one: set BRIDGE_CALLBACK_ALLOW_PRIVATE if the backend is really there", a)
	}
	return u, r, nil
}

// zoneCharacters are those of interfaces' names. url.Parse takes others, and makes a text of
// them that it does not take.
const zoneCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// isHost tells whether a text is an address, or can be the name of a host: labels of 1 to 63
// characters, letters, digits, - and _, or any beyond ASCII; a dot may end it.
func isHost(text string) bool {
	if a, err := netip.ParseAddr(text); err == nil {
		return strings.Trim(a.Zone(), zoneCharacters) == ""
	}
	if utf8.RuneCountInString(text) > 254 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(text, "."), ".") {
		if label == "" || utf8.RuneCountInString(label) > 63 || strings.ContainsFunc(label, func(c rune) bool {
			return c <= unicode.MaxASCII && c != '-' && c != '_' && !unicode.IsLetter(c) && !unicode.IsDigit(c)
		}) {
			return false
		}
	}
	return true
}

func reachOf(host string) reach {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return reachLoopback
	}
	if strings.HasSuffix(host, ".internal") {
		return reachInternal
	}
	return reachPublic
}
