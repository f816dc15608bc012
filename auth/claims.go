package auth

import (
	stdjson "encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

const (
	maxUserRunes = 128
	maxIDRunes   = 128
	// maxIssuedAhead is how far iat may lie ahead of our clock. A token dated
	// far ahead would outlive every "revoke all that were issued before now".
	maxIssuedAhead = 5 * time.Minute
	// lastSecond is 9999-12-31T23:59:59Z, the last that RFC 3339 can write. A
	// token that claims to live longer is held to live until then.
	lastSecond = 253402300799

	defaultUserClaim   = "sub"
	defaultRightsClaim = "bridge"
)

// Claims is what a token says.
type Claims struct {
	User      string             // whose it is: 1–128 characters, none of them a control character
	ID        string             // jti; empty where the token has none
	IssuedAt  time.Time          // iat; zero where the token has none
	Expires   time.Time          // when what the token allows ends: see checkTimes; no later than the year 9999
	Rights    stdjson.RawMessage // the rights claim as it was signed; nil where the token has none
	Issuer    string             // iss; empty where the token has none
	Audiences []string           // aud; empty where the token has none
}

// claimRules is what a token's claims must meet.
type claimRules struct {
	issuer, audience, user, rights string
	leeway                         time.Duration
	now                            func() time.Time
}

func newClaimRules(c TokenConfig) (claimRules, error) {
	r := claimRules{issuer: c.Issuer, audience: c.Audience, user: c.UserClaim, rights: c.RightsClaim,
		leeway: c.Leeway, now: c.Now}
	if r.user == "" {
		r.user = defaultUserClaim
	}
	if r.rights == "" {
		r.rights = defaultRightsClaim
	}
	if slices.Contains([]string{"exp", "nbf", "iat"}, r.user) || r.user == r.rights {
		return r, fmt.Errorf("the user claim cannot be %q", r.user)
	}
	if slices.Contains([]string{"exp", "nbf", "iat", "iss", "aud", "jti", "sub"}, r.rights) {
		return r, fmt.Errorf("the rights claim cannot be %q", r.rights)
	}
	if r.now == nil {
		r.now = time.Now
	}
	return r, nil
}

// read decodes and checks the claims of a token whose signature holds. Names
// are matched with their case and may not repeat, at any depth.
func (r *claimRules) read(b []byte) (Claims, error) {
	var m map[string]jsontext.Value
	if err := json.Unmarshal(b, &m); err != nil || m == nil {
		return Claims{}, tokenError(TokenMalformed, "the token's claims are not a JSON object in UTF-8 with each name once")
	}
	maps.DeleteFunc(m, func(_ string, v jsontext.Value) bool { return v.Kind() == 'n' }) // null is as good as absent
	var c Claims
	if err := r.checkTimes(m, &c); err != nil {
		return Claims{}, err
	}
	if err := r.checkParties(m, &c); err != nil {
		return Claims{}, err
	}
	user, err := stringClaim(m, r.user)
	if err != nil {
		return Claims{}, err
	}
	if err := checkName(user, maxUserRunes); err != nil {
		return Claims{}, tokenError(TokenBadClaims, "the token's %s (the user) %s", r.user, err)
	}
	c.User = user
	if c.ID, err = stringClaim(m, "jti"); err != nil {
		return Claims{}, err
	}
	if c.ID != "" {
		if err := checkName(c.ID, maxIDRunes); err != nil {
			return Claims{}, tokenError(TokenBadClaims, "the token's jti %s", err)
		}
	}
	c.Rights = stdjson.RawMessage(m[r.rights])
	return c, nil
}

// checkTimes holds exp, nbf and iat against the clock. What a token allows ends
// at its exp; where that has passed already, within the leeway, at exp + leeway.
// Else a session would end as it begins wherever a clock is a little off.
func (r *claimRules) checkTimes(m map[string]jsontext.Value, c *Claims) error {
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
	nbf, ok, err := timeClaim(m, "nbf")
	if err != nil {
		return err
	}
	if ok && now.Before(nbf.Add(-r.leeway)) {
		return tokenError(TokenNotYetValid, "the token's nbf is %s ahead of this server's clock", span(nbf.Sub(now)))
	}
	iat, ok, err := timeClaim(m, "iat")
	if err != nil {
		return err
	}
	if ok {
		if iat.Sub(now) > maxIssuedAhead {
			return tokenError(TokenNotYetValid, "the token's iat is %s ahead of this server's clock; %s are allowed",
				span(iat.Sub(now)), maxIssuedAhead)
		}
		c.IssuedAt = iat
	}
	return nil
}

func (r *claimRules) checkParties(m map[string]jsontext.Value, c *Claims) (err error) {
	if c.Issuer, err = stringClaim(m, "iss"); err != nil {
		return err
	}
	if r.issuer != "" && c.Issuer != r.issuer {
		return tokenError(TokenWrongIssuer, "the token's iss is not the issuer that is set here")
	}
	if v, ok := m["aud"]; ok {
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

// timeClaim reads a NumericDate: seconds since 1970 as a JSON number, whole or
// not. What lies outside 1970–9999 is held to the nearer end.
func timeClaim(m map[string]jsontext.Value, name string) (at time.Time, ok bool, err error) {
	v, ok := m[name]
	if !ok {
		return time.Time{}, false, nil
	}
	if v.Kind() != '0' {
		return time.Time{}, false, tokenError(TokenBadClaims, "the token's %s is not a number of seconds", name)
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // out of range gives an infinity, which is held below
		return time.Time{}, false, tokenError(TokenBadClaims, "the token's %s is not a number of seconds", name)
	}
	return time.Unix(int64(math.Floor(max(0, min(f, lastSecond)))), 0).UTC(), true, nil
}

// stringClaim reads a string; a claim that is absent is empty.
func stringClaim(m map[string]jsontext.Value, name string) (string, error) {
	v, ok := m[name]
	if !ok {
		return "", nil
	}
	var s string
	if v.Kind() != '"' || json.Unmarshal(v, &s) != nil {
		return "", tokenError(TokenBadClaims, "the token's %s is not a string", name)
	}
	return s, nil
}

// checkName holds a name to 1–most characters of valid UTF-8 without control
// characters, which forge log lines and terminal output.
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

// span writes a length of time in whole seconds.
func span(d time.Duration) string {
	if d < time.Second {
		return "less than a second"
	}
	return d.Truncate(time.Second).String()
}

// SignToken makes a HS256 token for c, which needs a User and Expires. The user
// stands in sub and the rights in bridge. For development, tests and tools: in
// production whoever signs people in makes the tokens.
func SignToken(secret string, c Claims) (string, error) {
	if err := checkTokenSecret(secret); err != nil {
		return "", err
	}
	if err := checkName(c.User, maxUserRunes); err != nil {
		return "", fmt.Errorf("the user %w", err)
	}
	if c.Expires.IsZero() {
		return "", errors.New("the expiry is missing")
	}
	m := jwt.MapClaims{defaultUserClaim: c.User, "exp": c.Expires.Unix()}
	if c.ID != "" {
		if err := checkName(c.ID, maxIDRunes); err != nil {
			return "", fmt.Errorf("the token id %w", err)
		}
		m["jti"] = c.ID
	}
	if !c.IssuedAt.IsZero() {
		m["iat"] = c.IssuedAt.Unix()
	}
	if len(c.Rights) > 0 {
		if !jsontext.Value(c.Rights).IsValid() {
			return "", errors.New("the rights are not JSON")
		}
		m[defaultRightsClaim] = c.Rights
	}
	if c.Issuer != "" {
		m["iss"] = c.Issuer
	}
	switch len(c.Audiences) {
	case 0:
	case 1:
		m["aud"] = c.Audiences[0]
	default:
		m["aud"] = c.Audiences
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, m).SignedString([]byte(secret))
	if err != nil {
		return "", errors.New("the token could not be signed")
	}
	if len(token) > maxTokenBytes {
		return "", fmt.Errorf("the token would have %d bytes; %d are allowed", len(token), maxTokenBytes)
	}
	return token, nil
}
