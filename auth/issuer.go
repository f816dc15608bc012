package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxIssuers bounds a file of issuers, because the keys that each publishes are read
// every few minutes.
const maxIssuers = 64

// Issuer is one who signs tokens, and the rules for them. Exactly one of Secrets,
// PublicKeyPEM, JWKSURL and Discover is set.
type Issuer struct {
	Issuer       string   `json:"issuer"`      // iss of its tokens, exactly
	Audience     string   `json:"audience"`    // aud that they must name; empty: not checked
	Secrets      []string `json:"secrets"`     // as TokenConfig.Secrets
	PublicKeyPEM string   `json:"publicKey"`   // as TokenConfig.PublicKeyPEM
	JWKSURL      string   `json:"jwksUrl"`     // as TokenConfig.JWKSURL
	Discover     bool     `json:"discover"`    // Issuer is a URL, where OpenID Connect Discovery 1.0 gives the JWKSURL
	UserClaim    string   `json:"userClaim"`   // claim that holds the user id; empty: sub
	RightsClaim  string   `json:"rightsClaim"` // claim that holds the rights; empty: bridge
}

// String names the issuer and keeps its secrets.
func (i Issuer) String() string { return "issuer " + i.Issuer }

// LogValue keeps the secrets out of logs.
func (i Issuer) LogValue() slog.Value { return slog.StringValue(i.Issuer) }

// ParseIssuers reads a file of issuers:
//
//	{"issuers":[{"issuer":"https://login.example","audience":"app","discover":true}]}
//
// with the members of Issuer; null means absent. Unknown names are refused, because a
// misspelt "audience" would accept every token. Errors never repeat a secret; where
// several issuers are wrong, they are joined.
func ParseIssuers(b []byte) ([]Issuer, error) {
	var f struct {
		Issuers []Issuer `json:"issuers"`
	}
	if err := json.Unmarshal(withoutBOM(b), &f, json.RejectUnknownMembers(true)); err != nil {
		return nil, fileFault(err, "issuers", "an issuer has issuer, audience, jwksUrl, discover, publicKey, secrets, userClaim and rightsClaim")
	}
	if len(f.Issuers) == 0 {
		return nil, errors.New(`no issuers: it must be {"issuers":[{"issuer":"https://…","discover":true}]}`)
	}
	if len(f.Issuers) > maxIssuers {
		return nil, fmt.Errorf("%d issuers; at most %d are allowed", len(f.Issuers), maxIssuers)
	}
	var errs []error
	for n, i := range f.Issuers {
		if err := i.check(); err != nil {
			errs = append(errs, fmt.Errorf("issuer %d: %w", n+1, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return f.Issuers, nil
}

func (i *Issuer) check() error {
	if i.Issuer == "" {
		return errors.New("issuer is missing: it is the iss of the tokens, to the letter")
	}
	given := 0
	for _, set := range []bool{len(i.Secrets) > 0, i.PublicKeyPEM != "", i.JWKSURL != "", i.Discover} {
		if set {
			given++
		}
	}
	if given != 1 {
		return fmt.Errorf("exactly one of jwksUrl, discover, publicKey and secrets must be set; %d are", given)
	}
	return nil
}

// judge finds the rules for a token by its iss. That is not verified yet: it only decides
// with which keys to verify the token.
func (t *Tokens) judge(p *parsedToken) (*judge, error) {
	if len(t.byIssuer) == 0 {
		return t.plain, nil
	}
	b, err := p.payload()
	if err != nil {
		return nil, err
	}
	m, err := parseClaims(b)
	if err != nil {
		return nil, err
	}
	iss, err := stringClaim(m, "iss")
	if err != nil {
		return nil, err
	}
	switch j := t.byIssuer[iss]; {
	case j != nil:
		return j, nil
	case t.plain != nil:
		return t.plain, nil
	case iss == "":
		return nil, tokenError(TokenWrongIssuer, "the token has no iss; it must name one of the issuers that are set here")
	}
	return nil, tokenError(TokenWrongIssuer, "the token's iss is none of the issuers that are set here")
}

// discoveryURL is where an issuer publishes its configuration (OpenID Connect Discovery
// 1.0 §4). Since that decides who may sign, it must come over TLS, except from a server
// on this machine.
func discoveryURL(issuer string) (string, error) {
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "" || u.User != nil:
		return "", errors.New("with discover, issuer must be an https URL")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(issuer, "#"):
		return "", errors.New("with discover, issuer must be a URL without a query and a fragment")
	case u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())):
		return "", errors.New("with discover, issuer must be an https URL; http only to this machine")
	}
	return strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration", nil
}

// parseDiscovery reads an issuer's configuration and returns the URL of its keys.
func parseDiscovery(b []byte, issuer string) (string, error) {
	var m map[string]jsontext.Value
	if err := json.Unmarshal(b, &m); err != nil {
		return "", errors.New("the OpenID configuration is not a JSON object")
	}
	text := func(name string) (s string) {
		if json.Unmarshal(m[name], &s) != nil {
			return ""
		}
		return s
	}
	if text("issuer") != issuer { // §4.3: another issuer's must not be taken for this one's
		return "", fmt.Errorf("the OpenID configuration is of the issuer %.200q, and issuer here is another one, to the letter", text("issuer"))
	}
	keys := text("jwks_uri")
	u, err := url.Parse(keys)
	if err != nil || u.Host == "" {
		return "", errors.New("the OpenID configuration has no jwks_uri that is a URL")
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname()) && strings.HasPrefix(issuer, "http://")) {
		return "", errors.New("the jwks_uri of the OpenID configuration is not https")
	}
	return keys, nil
}
