package auth

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestJWK(t *testing.T) {
	t.Run("verifies by kid and algorithm", jwkByKid)
	t.Run("serves all algorithms of its kind unless it names one", jwkAlgorithms)
	t.Run("of no use is left out, and the others are taken", jwkLeftOut)
}

func jwkByKid(t *testing.T) {
	k := testKeys()
	s := newKeyServer(t, replies(200, keySetJSON(t, map[string]any{
		"r": &k.rsa.PublicKey, "e": &k.ec.PublicKey, "d": k.ed.Public().(ed25519.PublicKey), "small": &k.smallRSA.PublicKey, "p384": &k.ec384.PublicKey,
	})))
	tokens := jwksTokens(t, s.URL, time.Hour)
	for name, c := range map[string]struct{ token, want string }{
		"RS256":              {raw(t, `{"alg":"RS256","kid":"r"}`, goodClaims, jwt.SigningMethodRS256, k.rsa), ""},
		"ES256":              {raw(t, `{"alg":"ES256","kid":"e"}`, goodClaims, jwt.SigningMethodES256, k.ec), ""},
		"EdDSA":              {edToken(t, "d"), ""},
		"another key's kid":  {raw(t, `{"alg":"RS256","kid":"e"}`, goodClaims, jwt.SigningMethodRS256, k.rsa), TokenUnknownKey},
		"another's key":      {raw(t, `{"alg":"RS256","kid":"r"}`, goodClaims, jwt.SigningMethodRS256, k.otherRSA), TokenBadSignature},
		"no kid":             {raw(t, `{"alg":"RS256"}`, goodClaims, jwt.SigningMethodRS256, k.rsa), TokenUnknownKey},
		"a huge kid":         {edToken(t, strings.Repeat("k", 300)), TokenUnknownKey},
		"HS256 with the n":   {raw(t, `{"alg":"HS256","kid":"r"}`, goodClaims, jwt.SigningMethodHS256, k.rsa.N.Bytes()), TokenAlgorithm},
		"PS256":              {raw(t, `{"alg":"PS256","kid":"r"}`, goodClaims, jwt.SigningMethodPS256, k.rsa), ""},
		"RSA of 1024 bits":   {raw(t, `{"alg":"RS256","kid":"small"}`, goodClaims, jwt.SigningMethodRS256, k.smallRSA), TokenUnknownKey},
		"P-384 under ES256":  {raw(t, `{"alg":"ES256","kid":"p384"}`, goodClaims, jwt.SigningMethodES256, k.ec), TokenUnknownKey},
		"a kid nobody knows": {edToken(t, "nobody"), TokenUnknownKey},
	} {
		_, err := tokens.Verify(t.Context(), c.token)
		t.Run(name, func(t *testing.T) { wantReason(t, err, c.want) })
	}
}

func jwkLeftOut(t *testing.T) {
	var log bytes.Buffer
	n := base64.RawURLEncoding.EncodeToString(testKeys().rsa.N.Bytes())
	const x = `"crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
	keys, err := parseKeySet([]byte(`{"keys":[
		{"kty":"OKP","kid":"good",`+x+`},
		{"kty":"OKP","kid":"padded","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=","alg":"EdDSA","use":"sig","key_ops":["verify"]},
		{"kty":"OKP","kid":"new-name","alg":"Ed25519",`+x+`},
		{"kty":"OKP","kid":"certified","d":"?","x5u":"?","x5c":["?"],"x5t":"NjVBRjY5MDlCMUIwNzU4RTA2QzZFMDQ4QzQ2MDAyQjVDNjk1RTM2Qg",`+x+`},
		{"kty":"OKP","kid":"good",`+x+`},
		{"kty":"OKP",`+x+`},
		{"kty":"OKP","kid":"enc","use":"enc",`+x+`},
		{"kty":"OKP","kid":"ops","key_ops":["sign"],`+x+`},
		{"kty":"OKP","kid":"alg","alg":"ES256",`+x+`},
		{"kty":"OKP","kid":"x25519","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
		{"kty":"OKP","kid":"short","crv":"Ed25519","x":"11qY"},
		{"kty":"oct","kid":"oct","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXM"},
		{"kty":"EC","kid":"off","crv":"P-256","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"},
		{"kty":"EC","kid":"short","crv":"P-256","x":"AA","y":"AA"},
		{"kty":"RSA","kid":"e","n":"AQAB","e":"AQAAAAAAAAE"},
		{"kty":"RSA","kid":"n","n":"AQAB","e":"AQAB"},
		{"kty":"RSA","kid":"wide-e","n":"`+n+`","e":"AQAAAAAAAAEAAQ"},
		{"kty":"`+strings.Repeat("new", 1000)+`","kid":"new"},
		{"kty":7},
		"hello"
	]}`), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, kid := range []string{"good", "padded", "new-name", "certified"} {
		for _, alg := range []string{algEdDSA, algEd25519} { // two names of one
			if keys[keyID{kid, alg}] == nil {
				t.Errorf("%s is missing for %s", kid, alg)
			}
		}
	}
	if len(keys) != 8 {
		t.Errorf("%d keys were taken", len(keys))
	}
	if n := strings.Count(log.String(), "left out"); n != 16 {
		t.Errorf("%d were said to be left out:\n%s", n, log.String())
	}
	if strings.Contains(log.String(), "c2VjcmV0") {
		t.Error("a symmetric key is in the log")
	}
	if log.Len() > 16*500 {
		t.Errorf("the log has %d bytes", log.Len())
	}
}

// FuzzKeySet looks for a set that the parser panics on, which would end the
// program, and for keys that break the rules for them.
func FuzzKeySet(f *testing.F) {
	k := testKeys()
	for _, key := range []any{&k.rsa.PublicKey, &k.ec.PublicKey, &k.ec384.PublicKey, k.ed.Public().(ed25519.PublicKey)} {
		f.Add([]byte(keySetJSON(f, map[string]any{"k": key})))
	}
	f.Add([]byte(`{"keys":[{"kty":"oct","kid":"k","k":"AA"},{"kty":"OKP","kid":"k","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseKeySet(b, slog.New(slog.DiscardHandler))
		if err != nil && keys != nil {
			t.Fatal("keys beside an error")
		}
		for id, key := range keys {
			if kind, err := kindOf(key); err != nil || kind != algorithms[id.alg].kind || id.kid == "" {
				t.Fatalf("%v goes with %q: %v", id, kind, err)
			}
		}
	})
}

func jwkAlgorithms(t *testing.T) {
	k := testKeys()
	var set map[string][]map[string]any
	if err := json.Unmarshal([]byte(keySetJSON(t, map[string]any{"open": &k.rsa.PublicKey, "bound": &k.otherRSA.PublicKey, "ec": &k.ec384.PublicKey})), &set); err != nil {
		t.Fatal(err)
	}
	for _, key := range set["keys"] {
		delete(key, "alg")
		if key["kid"] == "bound" {
			key["alg"] = algPS512
		}
	}
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	tokens := mustTokens(t, TokenConfig{JWKSURL: newKeyServer(t, replies(200, string(b))).URL, UnknownKIDInterval: time.Hour})
	for _, c := range []struct {
		alg, kid string
		key      any
		want     string
	}{
		{algRS256, "open", k.rsa, ""}, {algRS512, "open", k.rsa, ""}, {algPS256, "open", k.rsa, ""},
		{algPS512, "bound", k.otherRSA, ""}, {algRS256, "bound", k.otherRSA, TokenUnknownKey},
		{algES384, "ec", k.ec384, ""}, {algES256, "ec", k.ec, TokenUnknownKey},
	} {
		_, err := tokens.Verify(t.Context(), signedBy(t, c.alg, c.kid, goodClaims, c.key))
		t.Run(c.alg+" "+c.kid, func(t *testing.T) { wantReason(t, err, c.want) })
	}
}
