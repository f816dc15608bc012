package auth

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"hookbridge/auth/authtest"
)

func TestSecret(t *testing.T) {
	t.Run("that is refused says which and why", secretsAreRefused)
	t.Run("may be written without padding", secretWithoutPadding)
	t.Run("that is a private key signs alike in both spellings", secretSpellings)
	t.Run("that is new is random and usable", secretIsRandom)
}

func TestSignWebhook(t *testing.T) {
	t.Run("refuses what nobody could verify", signWebhookRefuses)
}

func secretsAreRefused(t *testing.T) {
	private, public := authtest.NewWebhookKeyPair()
	std := base64.StdEncoding.EncodeToString
	for name, c := range map[string]struct {
		secrets []string
		want    string
	}{
		"none":             {nil, "no webhook secret is set"},
		"an empty one":     {[]string{vectorSecret, ""}, "webhook secret 2 of 2 is empty"},
		"a blank one":      {[]string{" "}, "is empty"},
		"no prefix":        {[]string{"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, "must begin with whsec_ or whpk_"},
		"only the prefix":  {[]string{"whsec_"}, "nothing after its prefix"},
		"23 bytes":         {[]string{public, "whsec_" + std(make([]byte, 23))}, "2 of 2 holds 23 bytes; at least 24"},
		"the private key":  {[]string{private}, "is a private key"},
		"a short public":   {[]string{"whpk_" + std(make([]byte, 31))}, "holds 31 bytes"},
		"a line break":     {[]string{vectorSecret + "\n"}, "white space"},
		"one in its midst": {[]string{vectorSecret[:20] + "\n" + vectorSecret[20:]}, "white space"},
		"the URL alphabet": {[]string{"whsec_" + strings.Repeat("-_", 16)}, "URL alphabet"},
		"not base64":       {[]string{"whsec_" + strings.Repeat("!", 40)}, "not base64"},
		"half a padding":   {[]string{"whsec_" + std(make([]byte, 25))[:35]}, "not base64"},
		"far too long":     {[]string{"whsec_" + strings.Repeat("A", 2000)}, "longer than"},
		"seventeen":        {strings.Fields(strings.Repeat(vectorSecret+" ", 17)), "at most 16"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewWebhooks(c.secrets)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			for _, s := range c.secrets {
				if _, text, _ := strings.Cut(s, "_"); len(text) > 8 && strings.Contains(err.Error(), text[:8]) {
					t.Errorf("the error gives the secret away: %v", err)
				}
			}
		})
	}
}

func secretWithoutPadding(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	with := "whsec_" + base64.StdEncoding.EncodeToString(key)
	without := "whsec_" + base64.RawStdEncoding.EncodeToString(key)
	now := time.Now()
	if _, err := mustWebhooks(t, without).Verify(mustSign(t, with, "m", now, "x"), []byte("x"), now); err != nil {
		t.Fatal(err)
	}
}

func secretSpellings(t *testing.T) {
	private, err := parsePrivate(vectorPrivate)
	if err != nil {
		t.Fatal(err)
	}
	long := prefixPrivate + base64.StdEncoding.EncodeToString(private)
	if h := mustSign(t, long, vectorID, vectorTime, vectorBody); h.Signature != vectorEd25519 {
		t.Errorf("got %s", h.Signature)
	}
	torn := bytes.Clone(private)
	torn[40]++
	if _, err := SignWebhook(prefixPrivate+base64.StdEncoding.EncodeToString(torn), "m", vectorTime, nil); err == nil {
		t.Error("a key pair that does not belong together was taken")
	}
}

func signWebhookRefuses(t *testing.T) {
	_, public := authtest.NewWebhookKeyPair()
	for name, c := range map[string]struct{ secret, id string }{
		"no id": {vectorSecret, ""}, "a bad id": {vectorSecret, "a b"}, "no secret": {"", "m"},
		"a public key": {public, "m"}, "a short secret": {"whsec_AAAA", "m"}, "a short key": {"whsk_AAAA", "m"},
	} {
		if _, err := SignWebhook(c.secret, c.id, vectorTime, nil); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := SignWebhook(vectorSecret, "m", time.Time{}, nil); err == nil {
		t.Error("a time before 1970 was taken")
	}
}

func secretIsRandom(t *testing.T) {
	seen := map[string]bool{}
	for range 50 {
		s := authtest.NewWebhookSecret()
		private, public := authtest.NewWebhookKeyPair()
		mustWebhooks(t, s, public)
		if seen[s] || seen[private] {
			t.Fatal("the same key twice")
		}
		seen[s], seen[private] = true, true
	}
}

func FuzzSecret(f *testing.F) {
	for _, s := range []string{vectorSecret, vectorPrivate, "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=", "whsec_=", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		mac, public, err := parseSecret(s)
		if err != nil {
			// No run of the secret as long as its shortest useful part is told.
			if len(s) > 16 && strings.Contains(err.Error(), s[6:]) {
				t.Fatalf("the error tells the secret: %v", err)
			}
		} else if (len(mac) >= MinWebhookSecretBytes) == (len(public) == ed25519.PublicKeySize) {
			t.Fatalf("%d and %d bytes of key", len(mac), len(public))
		}
		if _, err := NewWebhooks([]string{s}); (err == nil) != (mac != nil || public != nil) {
			t.Fatalf("NewWebhooks: %v", err)
		}
		h, err := SignWebhook(s, "msg_1", vectorTime, nil)
		if err == nil && mac != nil {
			if _, err := mustWebhooks(t, s).Verify(h, nil, vectorTime); err != nil {
				t.Fatal(err)
			}
		}
	})
}
