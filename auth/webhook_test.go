package auth

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hookbridge/auth/authtest"
)

func TestWebhook(t *testing.T) {
	t.Run("is signed and verified as in the standard's vectors", webhookVectors)
	t.Run("that is refused says why", webhookRefusals)
	t.Run("may be signed with any key of the list", webhookKeys)
	t.Run("is verified by many callers at once", webhookConcurrently)
	t.Run("is signed and verified as by the official library", webhookOfficial)
}

// The vectors that the official libraries' tests carry.
const (
	vectorSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorPrivate = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="
	vectorID      = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorBody    = `{"test": 2432232314}`
	vectorMAC     = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	vectorEd25519 = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag=="
)

var vectorTime = time.Unix(1614265330, 0)

func vectorHeader() Header { return Header{vectorID, "1614265330", vectorMAC} }

func mustWebhooks(t testing.TB, secrets ...string) *Webhooks {
	t.Helper()
	w, err := NewWebhooks(secrets)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func webhookVectors(t *testing.T) {
	private, err := parsePrivate(vectorPrivate)
	if err != nil {
		t.Fatal(err)
	}
	public := prefixPublic + base64.StdEncoding.EncodeToString(private.Public().(ed25519.PublicKey))
	for _, v := range []struct{ signWith, verifyWith, want string }{
		{vectorSecret, vectorSecret, vectorMAC},
		{vectorPrivate, public, vectorEd25519},
	} {
		h, err := SignWebhook(v.signWith, vectorID, vectorTime, []byte(vectorBody))
		if err != nil {
			t.Fatal(err)
		}
		if h.Signature != v.want || h.Timestamp != "1614265330" || h.ID != vectorID {
			t.Errorf("signed %+v, want signature %s", h, v.want)
		}
		got, err := mustWebhooks(t, v.verifyWith).Verify(h, []byte(vectorBody), vectorTime.Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if want := (Verified{vectorID, vectorTime, 1}); got != want {
			t.Errorf("verified %+v, want %+v", got, want)
		}
	}
}

func webhookRefusals(t *testing.T) {
	other := mustSign(t, authtest.NewWebhookSecret(), vectorID, vectorTime, vectorBody).Signature
	ten := strings.TrimSpace(strings.Repeat(other+" ", 10))
	for name, c := range map[string]struct {
		change func(h *Header)
		body   string
		now    time.Time
		want   Reason // 0: good
		detail string
	}{
		"as signed":                   {},
		"at the oldest":               {now: vectorTime.Add(MaxSkew)},
		"at the newest":               {now: vectorTime.Add(-MaxSkew)},
		"just too old":                {now: vectorTime.Add(MaxSkew + time.Nanosecond), want: ReasonWindow, detail: "300 s behind"},
		"too new":                     {now: vectorTime.Add(-400 * time.Second), want: ReasonWindow, detail: "400 s ahead"},
		"milliseconds":                {change: func(h *Header) { h.Timestamp += "000" }, want: ReasonWindow, detail: "send seconds"},
		"the largest timestamp":       {change: func(h *Header) { h.Timestamp = "999999999999999" }, want: ReasonWindow},
		"no id":                       {change: func(h *Header) { h.ID = "" }, want: ReasonMissing, detail: "webhook-id is missing"},
		"nothing":                     {change: func(h *Header) { *h = Header{} }, want: ReasonMissing, detail: "webhook-id, webhook-timestamp, webhook-signature are"},
		"id with a full stop":         {change: func(h *Header) { h.ID = "msg.1" }, want: ReasonMalformed, detail: "position 4"},
		"id in another script":        {change: func(h *Header) { h.ID = "mśg" }, want: ReasonMalformed},
		"id of 65":                    {change: func(h *Header) { h.ID = strings.Repeat("a", 65) }, want: ReasonMalformed, detail: "65 characters"},
		"id of 64, unsigned":          {change: func(h *Header) { h.ID = strings.Repeat("a", 64) }, want: ReasonMismatch},
		"timestamp with a sign":       {change: func(h *Header) { h.Timestamp = "+1614265330" }, want: ReasonMalformed, detail: "digits"},
		"timestamp with a space":      {change: func(h *Header) { h.Timestamp = " 1614265330" }, want: ReasonMalformed},
		"timestamp with a fraction":   {change: func(h *Header) { h.Timestamp = "1614265330.5" }, want: ReasonMalformed},
		"timestamp of 16 digits":      {change: func(h *Header) { h.Timestamp = "1614265330000000" }, want: ReasonMalformed, detail: "too long"},
		"timestamp in Arabic digits":  {change: func(h *Header) { h.Timestamp = "١٦١٤٢" }, want: ReasonMalformed},
		"leading zero is not signed":  {change: func(h *Header) { h.Timestamp = "01614265330" }, want: ReasonMismatch},
		"another body":                {body: vectorBody + "\n", want: ReasonMismatch, detail: "1 signature tried against 1 key"},
		"no version":                  {change: func(h *Header) { h.Signature = strings.TrimPrefix(vectorMAC, "v1,") }, want: ReasonMalformed, detail: `"v1,<base64>"`},
		"only spaces":                 {change: func(h *Header) { h.Signature = "   " }, want: ReasonMalformed},
		"another version":             {change: func(h *Header) { h.Signature = "v2" + vectorMAC[2:] }, want: ReasonMismatch, detail: "no v1 or v1a"},
		"ed25519 only":                {change: func(h *Header) { h.Signature = vectorEd25519 }, want: ReasonMismatch, detail: "only v1 signatures can match"},
		"empty value":                 {change: func(h *Header) { h.Signature = "v1," }, want: ReasonMismatch, detail: "none of them is the base64"},
		"not base64":                  {change: func(h *Header) { h.Signature = "v1,***" }, want: ReasonMismatch},
		"another spelling of its end": {change: func(h *Header) { h.Signature = strings.Replace(vectorMAC, "OE=", "OF=", 1) }, want: ReasonMismatch},
		"without padding":             {change: func(h *Header) { h.Signature = strings.TrimSuffix(vectorMAC, "=") }, want: ReasonMismatch},
		"half of it":                  {change: func(h *Header) { h.Signature = vectorMAC[:20] }, want: ReasonMismatch},
		"as the last of ten":          {change: func(h *Header) { h.Signature = strings.TrimSuffix(ten, other) + vectorMAC }},
		"as the eleventh":             {change: func(h *Header) { h.Signature = ten + " " + vectorMAC }, want: ReasonMalformed, detail: "more than 10"},
		"among others and spaces":     {change: func(h *Header) { h.Signature = " v9,x  bare " + other + "  " + vectorMAC + " " }},
		"joined by a proxy":           {change: func(h *Header) { h.Signature = other + ", " + vectorMAC }},
		"joined by a proxy, first":    {change: func(h *Header) { h.Signature = vectorMAC + ", " + other + ", " + other }},
		"joined with commas":          {change: func(h *Header) { h.Signature = other + "," + vectorMAC }, want: ReasonMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			h, body, now := vectorHeader(), vectorBody, vectorTime
			if c.change != nil {
				c.change(&h)
			}
			if c.body != "" {
				body = c.body
			}
			if !c.now.IsZero() {
				now = c.now
			}
			_, err := mustWebhooks(t, vectorSecret).Verify(h, []byte(body), now)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var se *SignatureError
			if !errors.As(err, &se) || se.Reason != c.want || !strings.Contains(se.Detail, c.detail) {
				t.Fatalf("got %v, want reason %v and detail with %q", err, c.want, c.detail)
			}
			for _, secret := range []string{vectorMAC[3:], vectorSecret[6:], vectorBody} {
				if strings.Contains(se.Detail, secret) {
					t.Errorf("the detail gives away %q", secret)
				}
			}
		})
	}
}

func webhookKeys(t *testing.T) {
	private, public := authtest.NewWebhookKeyPair()
	old, current := authtest.NewWebhookSecret(), authtest.NewWebhookSecret()
	w := mustWebhooks(t, current, public, old)
	now := time.Now()
	for i, with := range []string{current, private, old} {
		h := mustSign(t, with, "msg_1", now, "{}")
		got, err := w.Verify(h, []byte("{}"), now)
		if err != nil || got.Key != i+1 {
			t.Errorf("key %d: %+v, %v", i+1, got, err)
		}
	}
	// A sender that rotates signs with both.
	both := mustSign(t, old, "msg_1", now, "{}")
	both.Signature += " " + mustSign(t, private, "msg_1", now, "{}").Signature
	if got, err := w.Verify(both, []byte("{}"), now); err != nil || got.Key != 2 {
		t.Errorf("both: %+v, %v", got, err)
	}
}

func webhookConcurrently(t *testing.T) {
	secrets := []string{authtest.NewWebhookSecret(), authtest.NewWebhookSecret()}
	w := mustWebhooks(t, secrets...)
	now := time.Now()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				body := fmt.Sprintf(`{"g":%d,"i":%d}`, g, i)
				h, err := SignWebhook(secrets[i%2], "msg_"+strconv.Itoa(i), now, []byte(body))
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := w.Verify(h, []byte(body), now); err != nil || got.Key != i%2+1 {
					t.Errorf("%+v, %v", got, err)
				}
				if _, err := w.Verify(h, []byte(body+" "), now); err == nil {
					t.Error("another body was taken")
				}
			}
		})
	}
	wg.Wait()
}

// The official library signs and verifies by the real clock only.
func webhookOfficial(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		secret := authtest.NewWebhookSecret()
		official, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		w := mustWebhooks(t, authtest.NewWebhookSecret(), secret)
		id, body, now := randomID(rng), randomBytes(rng, rng.IntN(3000)), time.Now()

		sig, err := official.Sign(id, now, body)
		if err != nil {
			t.Fatal(err)
		}
		h := Header{id, strconv.FormatInt(now.Unix(), 10), sig}
		if got, err := w.Verify(h, body, now); err != nil || got.Key != 2 {
			t.Fatalf("theirs is not taken: %v", err)
		}
		ours, err := SignWebhook(secret, id, now, body)
		if err != nil {
			t.Fatal(err)
		}
		if ours != h {
			t.Fatalf("ours %+v, theirs %+v", ours, h)
		}
		if err := official.Verify(body, httpHeader(ours)); err != nil {
			t.Fatalf("ours is not taken: %v", err)
		}
		if len(body) > 0 {
			body[rng.IntN(len(body))] ^= 1 << rng.IntN(8)
			_, err := w.Verify(h, body, now)
			if theirs := official.Verify(body, httpHeader(h)); err == nil || theirs == nil {
				t.Fatalf("a changed body is taken: ours %v, theirs %v", err, theirs)
			}
		}
	}
}

func mustSign(t testing.TB, secret, id string, at time.Time, body string) Header {
	t.Helper()
	h, err := SignWebhook(secret, id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func httpHeader(h Header) http.Header {
	x := http.Header{}
	x.Set("webhook-id", h.ID)
	x.Set("webhook-timestamp", h.Timestamp)
	x.Set("webhook-signature", h.Signature)
	return x
}

func randomID(rng *rand.Rand) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	b := make([]byte, 1+rng.IntN(64))
	for i := range b {
		b[i] = alphabet[rng.IntN(len(alphabet))]
	}
	return string(b)
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// FuzzVerify holds Verify to the official library: what ours takes, theirs
// takes, and no input whatever brings ours down.
func FuzzVerify(f *testing.F) {
	f.Add(vectorID, "", vectorMAC, []byte(vectorBody))
	f.Add("msg.1", "1", "v1,", []byte(nil))
	f.Add("m", "+1", "v1a,"+strings.Repeat("A", 86)+"== v2,x y", []byte("{}"))
	_, public := authtest.NewWebhookKeyPair()
	w := mustWebhooks(f, public, vectorSecret)
	official, err := standardwebhooks.NewWebhook(vectorSecret)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		now := time.Now()
		if timestamp == "" {
			timestamp = strconv.FormatInt(now.Unix(), 10)
		}
		for _, h := range []Header{
			{id, timestamp, signature},
			mustResign(id, timestamp, signature, body), // a true signature among what the fuzzer wrote
		} {
			_, err := w.Verify(h, body, now)
			var se *SignatureError
			if err != nil && !errors.As(err, &se) {
				t.Fatalf("%T is not a *SignatureError", err)
			}
			if theirs := official.Verify(body, httpHeader(h)); err == nil && theirs != nil {
				t.Fatalf("ours takes %+v, theirs does not: %v", h, theirs)
			}
			if len(w.Diagnose(h, body, now)) == 0 {
				t.Fatal("no diagnosis")
			}
		}
	})
}

func mustResign(id, timestamp, signature string, body []byte) Header {
	key, err := parseMACKey(vectorSecret)
	if err != nil {
		panic(err)
	}
	st := macState{hash: newMAC(key)}
	mac := base64.StdEncoding.EncodeToString(st.compute(id, timestamp, body))
	return Header{id, timestamp, signature + " v1," + mac}
}

func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{256, 1 << 10, 20 << 10} {
		body := make([]byte, size)
		secret := authtest.NewWebhookSecret()
		now := time.Now()
		h := mustSign(b, secret, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", now, string(body))
		w := mustWebhooks(b, secret)
		b.Run(fmt.Sprintf("ours/%dB", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := w.Verify(h, body, now); err != nil {
					b.Fatal(err)
				}
			}
		})
		official, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			b.Fatal(err)
		}
		x := httpHeader(h)
		b.Run(fmt.Sprintf("official/%dB", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := official.VerifyIgnoringTimestamp(body, x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	private, public := authtest.NewWebhookKeyPair()
	body, now := make([]byte, 1<<10), time.Now()
	h := mustSign(b, private, "msg_1", now, string(body))
	w := mustWebhooks(b, public)
	b.Run("ours/ed25519/1024B", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.Verify(h, body, now); err != nil {
				b.Fatal(err)
			}
		}
	})
}
