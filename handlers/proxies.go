package handlers

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"hookbridge/app/wire"

	"github.com/gofiber/fiber/v2"
)

const (
	forwardedFor = "X-Forwarded-For"
	forwarded    = "Forwarded" // RFC 7239
	// maxHops bounds a configured count of proxies; a larger one is a mistake.
	maxHops = 32
	// addressBits is the length of the network prefix that one IPv6 client has. Limits
	// per address count such networks.
	addressBits = 64
)

// Proxies says which reverse proxies are trusted to name the client's address. The zero
// Proxies trusts none: the client is the connection's peer.
type Proxies struct {
	header   string // empty: no proxy is trusted
	hops     int    // how many proxies there are; 0 where networks is set
	networks []netip.Prefix
}

// ParseProxies reads how many proxies there are ("1"), or their networks and addresses
// ("10.0.0.0/8,2001:db8::1"), and the header in which they name the client; an empty
// header means X-Forwarded-For. A header alone means one proxy; neither means none.
func ParseProxies(trusted, header string) (Proxies, error) {
	p := Proxies{header: header}
	if !wire.Alphanumeric(header, "-_") {
		return Proxies{}, errors.New("a header's name has letters, digits and hyphens")
	}
	set := trusted != ""
	trusted = strings.TrimSpace(trusted)
	if set && trusted == "" {
		return Proxies{}, errors.New("it is blank: name the proxies, or unset it")
	}
	if trusted == "" {
		if header != "" {
			p.hops = 1
		}
		return p, nil
	}
	if header == "" {
		p.header = forwardedFor
	}
	if n, err := strconv.Atoi(trusted); err == nil {
		if n < 1 || n > maxHops {
			return Proxies{}, fmt.Errorf("a count of proxies is from 1 to %d", maxHops)
		}
		p.hops = n
		return p, nil
	}
	for entry := range strings.SplitSeq(trusted, ",") {
		entry = strings.TrimSpace(entry)
		network, err := netip.ParsePrefix(entry)
		if err != nil {
			ip, err := netip.ParseAddr(entry)
			if err != nil || ip.Zone() != "" {
				return Proxies{}, fmt.Errorf("%q is neither a count of proxies nor an address or network like 10.0.0.0/8", entry)
			}
			network = netip.PrefixFrom(ip, ip.BitLen())
		}
		if a := network.Addr(); a.Is4In6() && network.Bits() >= 96 {
			network = netip.PrefixFrom(a.Unmap(), network.Bits()-96)
		} else if a.Is4In6() {
			return Proxies{}, fmt.Errorf("%q is a network of IPv4 addresses and more: write it as one of IPv4", entry)
		}
		if network.Bits() == 0 {
			return Proxies{}, fmt.Errorf("%q would believe everybody: name the networks of your proxies", entry)
		}
		p.networks = append(p.networks, network.Masked())
	}
	return p, nil
}

// Trusts reports whether an address is in one of the proxies' networks.
func (p *Proxies) Trusts(ip netip.Addr) bool {
	return slices.ContainsFunc(p.networks, func(n netip.Prefix) bool { return n.Contains(ip) })
}

// Networks reports whether proxies are known by their networks.
func (p *Proxies) Networks() bool { return len(p.networks) > 0 }

// Hops is how many proxies there are; 0 where they are known by their networks.
func (p *Proxies) Hops() int { return p.hops }

// client finds the client's address in the header, to whose end each proxy has added
// one, over all lines. What the client itself wrote comes first and is never reached.
// Where the entry that counts is missing or no address, the client is the peer.
func (p *Proxies) client(peer netip.Addr, lines [][]byte) netip.Addr {
	if p.header == "" || p.hops == 0 && !p.Trusts(peer) {
		return peer
	}
	var list []string
	for _, line := range lines {
		if strings.EqualFold(p.header, forwarded) {
			list = append(list, forwardedNodes(string(line))...)
		} else {
			list = append(list, strings.Split(string(line), ",")...)
		}
	}
	if len(list) == 0 {
		return peer
	}
	place := max(0, len(list)-p.hops)
	if p.hops == 0 {
		for place = len(list) - 1; place > 0; place-- {
			if ip, ok := parseNode(list[place]); !ok || !p.Trusts(ip) {
				break
			}
		}
	}
	if ip, ok := parseNode(list[place]); ok {
		return ip
	}
	return peer
}

// quotedPair is a character with a backslash before it in a quoted string (RFC 9110
// §5.6.4).
var quotedPair = regexp.MustCompile(`\\(.)`)

// parseNode reads an address with or without port, brackets and quotes. A port may also
// be a proxy's own word that begins with an underscore (RFC 7239 §6.2).
func parseNode(s string) (netip.Addr, bool) {
	s = strings.Trim(s, " \t")
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = quotedPair.ReplaceAllString(s[1:len(s)-1], "$1")
	}
	if i := strings.LastIndex(s, ":_"); i >= 0 {
		s = s[:i]
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return normalAddress(ap.Addr()), true
	}
	if len(s) >= 2 && s[0] == '[' && s[len(s)-1] == ']' {
		s = s[1 : len(s)-1]
	}
	ip, err := netip.ParseAddr(s)
	return normalAddress(ip), err == nil
}

// normalAddress makes addresses comparable: no zone, and IPv4 not inside IPv6.
func normalAddress(ip netip.Addr) netip.Addr { return ip.Unmap().WithZone("") }

// forwardedNodes lists the for= of each element of a Forwarded header (RFC 7239 §4). An
// element without one gives an empty string, because it counts as a hop.
func forwardedNodes(line string) (nodes []string) {
	for _, element := range splitQuoted(line, ',') {
		node := ""
		for _, pair := range splitQuoted(element, ';') {
			if name, value, ok := strings.Cut(pair, "="); ok && strings.EqualFold(strings.Trim(name, " \t"), "for") {
				node = value
			}
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// splitQuoted splits at a separator outside of quotes. It searches from the end, where
// the proxies have written: a quote that the client opens and never closes must not
// hide what they wrote.
func splitQuoted(s string, separator byte) (parts []string) {
	quoted, end := false, len(s)
	for i := len(s) - 1; i >= 0; i-- {
		switch {
		case s[i] == '"' && !(quoted && escaped(s, i)):
			quoted = !quoted
		case s[i] == separator && !quoted:
			parts = append(parts, s[i+1:end])
			end = i
		}
	}
	parts = append(parts, s[:end])
	slices.Reverse(parts)
	return parts
}

// escaped reports whether a backslash escapes the character at i of a quoted string.
func escaped(s string, i int) bool {
	before := len(s[:i]) - len(strings.TrimRight(s[:i], `\`))
	return before%2 == 1
}

// clientAddress is the peer's address, or what trusted proxies say it is.
func (s *Server) clientAddress(c *fiber.Ctx) string { return s.client(c).String() }

func (s *Server) client(c *fiber.Ctx) netip.Addr {
	peer, _ := netip.AddrFromSlice(c.Context().RemoteIP()) // a TCP address; were it none, the invalid address, which no network contains
	peer = normalAddress(peer)
	if s.o.Proxies.header == "" {
		return peer
	}
	return s.o.Proxies.client(peer, c.Request().Header.PeekAll(s.o.Proxies.header))
}

// clientNetwork is what limits per address count by: an IPv4 address, or an IPv6 client's
// network.
func clientNetwork(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil || !ip.Is6() {
		return address
	}
	network, err := ip.Prefix(addressBits)
	if err != nil { // an IPv6 address has more bits than that
		return address
	}
	return network.String()
}
