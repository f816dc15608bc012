package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

func TestAlgorithm(t *testing.T) {
	t.Run("goes with the kind of key that it is made for", algorithmsByKind)
	t.Run("of another kind is not verified with a public key", algorithmsOfPublicKey)
	t.Run("never takes a public key for a secret", algorithmConfusion)
}

// signedBy makes a token that a user has got from an issuer.
func signedBy(t *testing.T, alg, kid, claims string, key any) string {
	t.Helper()
	return raw(t, fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, kid), claims, algorithms[alg].method, key)
}

func algorithmsByKind(t *testing.T) {
	k := testKeys()
	ec521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signers := map[keyKind]any{kindSecret: []byte(testSecret), kindRSA: k.rsa, kindP256: k.ec, kindP384: k.ec384, kindP521: ec521, kindEd25519: k.ed}
	configs := map[keyKind]TokenConfig{kindSecret: {Secrets: []string{testSecret}}}
	for kind, signer := range signers {
		if s, ok := signer.(crypto.Signer); ok {
			configs[kind] = TokenConfig{PublicKeyPEM: pemOf(t, s.Public())}
		}
	}
	for alg, a := range algorithms {
		token := signedBy(t, alg, "", goodClaims, signers[a.kind])
		for kind, config := range configs {
			want := TokenAlgorithm
			if kind == a.kind {
				want = ""
			}
			_, err := mustTokens(t, config).Verify(t.Context(), token)
			t.Run(fmt.Sprint(alg, " with a key for ", kind), func(t *testing.T) { wantReason(t, err, want) })
		}
	}
	if len(algorithms) != 14 {
		t.Errorf("%d algorithms", len(algorithms))
	}
}

func algorithmConfusion(t *testing.T) {
	k := testKeys()
	public := pemOf(t, k.rsa.Public())
	set := newKeyServer(t, replies(200, keySetJSON(t, map[string]any{"r": &k.rsa.PublicKey})))
	for alg, a := range algorithms {
		if a.kind != kindSecret {
			continue
		}
		for _, secret := range []string{public, strings.TrimSpace(public)} {
			token := signedBy(t, alg, "r", goodClaims, []byte(secret))
			for _, c := range []TokenConfig{{PublicKeyPEM: public}, {JWKSURL: set.URL},
				{Issuers: []Issuer{{Issuer: "i", PublicKeyPEM: public}}, Secrets: []string{testSecret}}} {
				if _, err := mustTokens(t, c).Verify(t.Context(), token); err == nil {
					t.Errorf("%s: a token that is signed with the public key was taken", alg)
				}
			}
		}
	}
}

func algorithmsOfPublicKey(t *testing.T) {
	k := testKeys()
	const claims = `{"sub":"u","exp":1795381200}`
	tokens := map[string]string{
		algHS256: hs(t, claims),
		algRS256: raw(t, `{"alg":"RS256"}`, claims, jwt.SigningMethodRS256, k.rsa),
		algES256: raw(t, `{"alg":"ES256"}`, claims, jwt.SigningMethodES256, k.ec),
		algEdDSA: raw(t, `{"alg":"EdDSA"}`, claims, jwt.SigningMethodEdDSA, k.ed),
		algPS256: raw(t, `{"alg":"PS256"}`, claims, jwt.SigningMethodPS256, k.rsa),
	}
	for alg, key := range map[string]crypto.PublicKey{algRS256: k.rsa.Public(), algES256: k.ec.Public(), algEdDSA: k.ed.Public()} {
		text := pemOf(t, key)
		// The key as an HMAC secret, in each form that a confused verifier might use.
		for _, secret := range []string{text, strings.TrimSpace(text)} {
			tokens["forged with "+alg+secret[len(secret)-1:]] = raw(t, `{"alg":"HS256"}`, claims, jwt.SigningMethodHS256, []byte(secret))
		}
		for _, text := range []string{text, strings.ReplaceAll(text, "\n", `\n`)} {
			v := mustTokens(t, TokenConfig{PublicKeyPEM: text})
			for name, token := range tokens {
				want := TokenAlgorithm
				if name == alg || name == algPS256 && alg == algRS256 {
					want = ""
				}
				_, err := v.Verify(t.Context(), token)
				wantReason(t, err, want)
			}
		}
	}
	other := mustTokens(t, TokenConfig{PublicKeyPEM: pemOf(t, k.otherRSA.Public())})
	_, err := other.Verify(t.Context(), tokens[algRS256])
	wantReason(t, err, TokenBadSignature)

	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&k.rsa.PublicKey)}))
	_, err = mustTokens(t, TokenConfig{PublicKeyPEM: pkcs1}).Verify(t.Context(), tokens[algRS256])
	wantReason(t, err, "")
}
