package auth

import (
	"bytes"
	"cmp"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxUserRunes = 128
	maxIDRunes   = 128
	// maxIssuedAhead is how far iat may lie ahead of our clock. A token dated
	// far ahead would outlive every "revoke all that were issued before now".
	maxIssuedAhead = 5 * time.Minute
	// The century of tokens, in Unix seconds.
	firstOfCentury = 946684800  // 2000-01-01
	endOfCentury   = 4102444800 // 2100-01-01

	defaultUserClaim   = "sub"
	defaultRightsClaim = "bridge"
)

// LastSecond is 9999-12-31T23:59:59Z in Unix seconds, the last that RFC 3339 can write.
// A token that expires later is taken to expire then.
const LastSecond = 253402300799

// Claims are a checked token's claims.
type Claims struct {
	User      string             // the user: 1–128 characters, none of them a control character
	Token     string             // names the token itself, see fingerprint
	ID        string             // jti; empty where the token has none
	IssuedAt  time.Time          // iat; zero where the token has none
	Expires   time.Time          // when what the token allows ends: see checkTimes; no later than the year 9999
	Rights    stdjson.RawMessage // the rights claim as it was signed; nil where the token has none
	Issuer    string             // iss; empty where the token has none
	Audiences []string           // aud; empty where the token has none
}

// ErrClaimName is wrapped by the error of a configuration that gives the user or rights
// claim the name of a registered claim.
var ErrClaimName = errors.New("claim names")

// claimRules are the rules for a token's claims.
type claimRules struct {
	issuer, audience, user, rights string
	leeway                         time.Duration
	now                            func() time.Time
}

func newClaimRules(c TokenConfig, i Issuer) (claimRules, error) {
	r := claimRules{issuer: i.Issuer, audience: i.Audience, user: cmp.Or(i.UserClaim, defaultUserClaim),
		rights: cmp.Or(i.RightsClaim, defaultRightsClaim), leeway: c.Leeway, now: c.Now}
	if slices.Contains([]string{"exp", "nbf", "iat"}, r.user) {
		return r, fmt.Errorf("%w: the user claim cannot be %q", ErrClaimName, r.user)
	}
	if r.user == r.rights {
		return r, fmt.Errorf("%w: the user claim and the rights claim are both %q", ErrClaimName, r.user)
	}
	if slices.Contains([]string{"exp", "nbf", "iat", "iss", "aud", "jti", "sub"}, r.rights) {
		return r, fmt.Errorf("%w: the rights claim cannot be %q", ErrClaimName, r.rights)
	}
	if r.now == nil {
		r.now = time.Now
	}
	return r, nil
}

// claimSet is a token's claims in the order in which they stand there. A token has a
// few claims, so that a list costs less than a map.
type claimSet []claim

// claim is one claim as it was signed.
type claim struct {
	name  string
	value jsontext.Value
}

// parseClaims decodes claims. Names are case-sensitive and may not repeat, at any depth.
// Null means absent.
func parseClaims(b []byte) (claimSet, error) {
	var m claimSet
	if err := json.Unmarshal(b, &m); err != nil || m == nil {
		return nil, tokenError(TokenMalformed, "the token's claims are not a JSON object in UTF-8 with each name once")
	}
	return m, nil
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom. The decoder refuses text that is not
// UTF-8 and names that repeat.
func (m *claimSet) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if kind := d.PeekKind(); kind != '{' {
		if _, err := d.ReadValue(); err != nil {
			return err
		}
		return errNoObject
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	*m = make(claimSet, 0, usualClaims)
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		c := claim{name: name.String()}
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		if value.Kind() == 'n' {
			continue
		}
		c.value = value.Clone()
		*m = append(*m, c)
	}
	_, err := d.ReadToken()
	return err
}

// usualClaims is how many claims most tokens have at most.
const usualClaims = 8

var errNoObject = errors.New("not a JSON object")

// get returns a claim's value; nil where the token does not have it.
func (m claimSet) get(name string) jsontext.Value {
	for i := range m {
		if m[i].name == name {
			return m[i].value
		}
	}
	return nil
}

// claimCheck is one check of a token's claims.
type claimCheck struct {
	name  string
	check func(r *claimRules, m claimSet, c *Claims) error
}

// claimChecks are all checks, in their order.
var claimChecks = []claimCheck{
	{"exp", (*claimRules).checkExpiry},
	{"nbf", (*claimRules).checkNotBefore},
	{"iat", (*claimRules).checkIssuedAt},
	{"iss", (*claimRules).checkIssuer},
	{"aud", (*claimRules).checkAudience},
	{"user", (*claimRules).checkUser},
	{"jti", (*claimRules).checkID},
}

// read decodes and checks the claims of a token whose signature holds.
func (r *claimRules) read(b []byte) (Claims, error) {
	m, err := parseClaims(b)
	if err != nil {
		return Claims{}, err
	}
	var c Claims
	for _, one := range claimChecks {
		if err := one.check(r, m, &c); err != nil {
			return Claims{}, err
		}
	}
	c.Rights = stdjson.RawMessage(m.get(r.rights))
	return c, nil
}

func (r *claimRules) checkUser(m claimSet, c *Claims) (err error) {
	if c.User, err = stringClaim(m, r.user); err != nil {
		return err
	}
	if err := checkName(c.User, maxUserRunes); err != nil {
		return tokenError(TokenBadClaims, "the token's %s (the user) %s", r.user, err)
	}
	return nil
}

func (r *claimRules) checkID(m claimSet, c *Claims) (err error) {
	if c.ID, err = stringClaim(m, "jti"); err != nil || c.ID == "" {
		return err
	}
	if err := checkName(c.ID, maxIDRunes); err != nil {
		return tokenError(TokenBadClaims, "the token's jti %s", err)
	}
	return nil
}

// checkExpiry compares exp with the clock. What a token allows ends at its exp, or, if
// that has passed within the leeway, at exp + leeway: otherwise a session would end as
// it begins where a clock is slightly off.
func (r *claimRules) checkExpiry(m claimSet, c *Claims) error {
	now := r.now()
	exp, ok, err := timeClaim(m, "exp")
	switch {
	case err != nil:
		return err
	case !ok:
		return tokenError(TokenBadClaims, "the token has no exp; a token must expire")
	case !now.Before(exp.Add(r.leeway)):
		return tokenError(TokenExpired, "the token expired %s ago; get a new one", span(now.Sub(exp)))
	}
	c.Expires = exp
	if !now.Before(exp) {
		c.Expires = exp.Add(r.leeway)
	}
	return nil
}

func (r *claimRules) checkNotBefore(m claimSet, _ *Claims) error {
	now := r.now()
	nbf, ok, err := timeClaim(m, "nbf")
	if err != nil {
		return err
	}
	if ok && now.Before(nbf.Add(-r.leeway)) {
		return tokenError(TokenNotYetValid, "the token's nbf is %s ahead of this server's clock", span(nbf.Sub(now)))
	}
	return nil
}

func (r *claimRules) checkIssuedAt(m claimSet, c *Claims) error {
	now := r.now()
	iat, ok, err := timeClaim(m, "iat")
	if err != nil || !ok {
		return err
	}
	if iat.Sub(now) > maxIssuedAhead {
		return tokenError(TokenNotYetValid, "the token's iat is %s ahead of this server's clock; %s are allowed",
			span(iat.Sub(now)), maxIssuedAhead)
	}
	c.IssuedAt = iat
	return nil
}

func (r *claimRules) checkIssuer(m claimSet, c *Claims) (err error) {
	if c.Issuer, err = stringClaim(m, "iss"); err != nil {
		return err
	}
	if r.issuer != "" && c.Issuer != r.issuer {
		return tokenError(TokenWrongIssuer, "the token's iss is not the issuer that is set here")
	}
	return nil
}

func (r *claimRules) checkAudience(m claimSet, c *Claims) error {
	if v := m.get("aud"); v != nil {
		var one string
		if json.Unmarshal(v, &one) == nil {
			c.Audiences = []string{one}
		} else if json.Unmarshal(v, &c.Audiences) != nil {
			return tokenError(TokenBadClaims, "the token's aud is neither a string nor a list of strings")
		}
	}
	if r.audience != "" && !slices.Contains(c.Audiences, r.audience) {
		return tokenError(TokenWrongAudience, "the token's aud does not name the audience that is set here")
	}
	return nil
}

// timeClaim reads a NumericDate: seconds since 1970 as a JSON number, whole or not. A
// time outside 1970–9999 becomes the nearer end.
func timeClaim(m claimSet, name string) (at time.Time, ok bool, err error) {
	v := m.get(name)
	if v == nil {
		return time.Time{}, false, nil
	}
	if v.Kind() != '0' {
		return time.Time{}, false, tokenError(TokenBadClaims, "the token's %s is not a number of seconds", name)
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // out of range gives an infinity, which is clamped below
		return time.Time{}, false, tokenError(TokenBadClaims, "the token's %s is not a number of seconds", name)
	}
	if unit := otherUnit(f); unit != "" {
		return time.Time{}, false, tokenError(TokenBadClaims,
			"the token's %s is in %s; RFC 7519 wants seconds, in JavaScript Math.floor(Date.now() / 1000)", name, unit)
	}
	return time.Unix(int64(math.Floor(max(0, min(f, LastSecond)))), 0).UTC(), true, nil
}

// otherUnit names the unit, such as milliseconds, in which a number would be a time of
// this century; empty where there is none. Read as seconds it would be millennia away.
func otherUnit(f float64) string {
	for _, u := range []struct {
		name string
		per  float64 // second
	}{{"milliseconds", 1e3}, {"microseconds", 1e6}, {"nanoseconds", 1e9}} {
		if s := f / u.per; s >= firstOfCentury && s < endOfCentury {
			return u.name
		}
	}
	return ""
}

// stringClaim reads a string; empty where the claim is absent.
func stringClaim(m claimSet, name string) (string, error) {
	v := m.get(name)
	switch {
	case v == nil:
		return "", nil
	case v.Kind() != '"':
		return "", tokenError(TokenBadClaims, "the token's %s is not a string", name)
	case bytes.IndexByte(v, '\\') < 0: // nothing in it is escaped, and parseClaims has found it to be UTF-8
		return string(v[1 : len(v)-1]), nil
	}
	var s string
	if json.Unmarshal(v, &s) != nil {
		return "", tokenError(TokenBadClaims, "the token's %s is not a string", name)
	}
	return s, nil
}

// checkName checks that a name has 1–most characters of valid UTF-8, none of them a
// control character: those could forge log lines and terminal output. For a user it is
// the rule of bridge.CheckUserID, which this package does not import.
func checkName(s string, most int) error {
	if s == "" {
		return errors.New("is missing or empty")
	}
	if !utf8.ValidString(s) {
		return errors.New("is not UTF-8")
	}
	if n := utf8.RuneCountInString(s); n > most {
		return fmt.Errorf("has %d characters; %d are allowed", n, most)
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("has a control character in it")
	}
	return nil
}

// span writes a duration in whole seconds.
func span(d time.Duration) string {
	if d < time.Second {
		return "less than a second"
	}
	return d.Truncate(time.Second).String()
}
