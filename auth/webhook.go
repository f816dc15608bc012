package auth

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxWebhookKeys bounds the work that one forged request causes.
const maxWebhookKeys = 16

// Webhooks checks webhook signatures against a fixed list of keys, any of which
// may have signed, so that a key rotates without a gap. It is safe for
// concurrent use.
type Webhooks struct {
	keys []webhookKey
	macs int // keys that make v1 signatures; the others make v1a
}

// webhookKey is one entry of the list: either secret or public is set.
type webhookKey struct {
	secret []byte
	public ed25519.PublicKey
	states *sync.Pool // of *macState, for secret
}

// macState is a keyed hash that is reused. Keying is two of the three blocks that hashing
// a short message takes.
type macState struct {
	hash hash.Hash
	head []byte // "id.timestamp."
	sum  [macBytes]byte
}

// Verified is what a matching signature proves.
type Verified struct {
	ID        string
	Timestamp time.Time
	Key       int // which key matched, counted from 1 in the order given to NewWebhooks
}

// CheckWebhookSecret says what is wrong with a key, without any part of it.
func CheckWebhookSecret(secret string) error {
	_, _, err := parseSecret(secret)
	return err
}

// NewWebhooks reads the keys: "whsec_<base64>" with at least
// MinWebhookSecretBytes, or "whpk_<base64>" ed25519 public keys. Its error names
// the entry, counted from 1, and what is wrong with it, without any part of it.
func NewWebhooks(secrets []string) (*Webhooks, error) {
	if len(secrets) == 0 {
		return nil, errors.New("no webhook secret is set")
	}
	if len(secrets) > maxWebhookKeys {
		return nil, fmt.Errorf("%d webhook secrets are set; at most %d are allowed", len(secrets), maxWebhookKeys)
	}
	w := &Webhooks{}
	for i, s := range secrets {
		secret, public, err := parseSecret(s)
		if err != nil {
			return nil, fmt.Errorf("webhook secret %d of %d %w", i+1, len(secrets), err)
		}
		k := webhookKey{secret: secret, public: public}
		if secret != nil {
			w.macs++
			k.states = &sync.Pool{New: func() any { return &macState{hash: newMAC(secret)} }}
		}
		w.keys = append(w.keys, k)
	}
	return w, nil
}

// Verify checks that one of the keys signed body, and that the signature is not
// older or newer than MaxSkew. Any error is a *SignatureError. The body is not
// kept and, for v1 signatures, not copied.
func (w *Webhooks) Verify(h Header, body []byte, now time.Time) (Verified, error) {
	// Checked before the body is hashed, which costs more.
	at, sigs, err := h.parse(now)
	if err != nil {
		return Verified{}, err
	}
	if key := w.match(&sigs, h.ID, h.Timestamp, body); key > 0 {
		return Verified{ID: h.ID, Timestamp: at, Key: key}, nil
	}
	return Verified{}, &SignatureError{ReasonMismatch, w.mismatch(&sigs)}
}

// match returns the first key, counted from 1, that made one of the signatures,
// else 0. It signs the timestamp's bytes as received.
func (w *Webhooks) match(sigs *signatures, id, timestamp string, body []byte) int {
	var macs [maxSignatures][macBytes]byte
	nmac := 0
	for _, value := range sigs.macs[:sigs.nmac] {
		if mac, ok := decodeMAC(value); ok {
			macs[nmac] = mac
			nmac++
		}
	}
	var message []byte // ed25519 hashes its message twice, so that it must be in one piece
	for i := range w.keys {
		k := &w.keys[i]
		if k.secret != nil {
			if nmac > 0 && k.matchMAC(macs[:nmac], id, timestamp, body) {
				return i + 1
			}
			continue
		}
		for _, value := range sigs.eds[:sigs.ned] {
			sig, ok := decodeEd25519(value)
			if !ok {
				continue
			}
			if message == nil {
				message = signedText(id, timestamp, body)
			}
			if ed25519.Verify(k.public, message, sig) {
				return i + 1
			}
		}
	}
	return 0
}

func (k *webhookKey) matchMAC(macs [][macBytes]byte, id, timestamp string, body []byte) bool {
	st := k.states.Get().(*macState)
	defer k.states.Put(st)
	sum := st.compute(id, timestamp, body)
	return slices.ContainsFunc(macs, func(mac [macBytes]byte) bool { return hmac.Equal(mac[:], sum) })
}

func newMAC(secret []byte) hash.Hash { return hmac.New(sha256.New, secret) }

// compute hashes "id.timestamp.body". The result is valid until the next call.
func (st *macState) compute(id, timestamp string, body []byte) []byte {
	st.head = appendHead(st.head[:0], id, timestamp)
	st.hash.Reset()
	st.hash.Write(st.head)
	st.hash.Write(body)
	return st.hash.Sum(st.sum[:0])
}

func signedText(id, timestamp string, body []byte) []byte {
	b := make([]byte, 0, len(id)+len(timestamp)+2+len(body))
	return append(appendHead(b, id, timestamp), body...)
}

// appendHead appends what is signed in front of the body.
func appendHead(b []byte, id, timestamp string) []byte {
	b = append(b, id...)
	b = append(b, '.')
	b = append(b, timestamp...)
	return append(b, '.')
}

// mismatch describes what was tried, and the mistake where the header alone shows it.
func (w *Webhooks) mismatch(s *signatures) string {
	tried := fmt.Sprintf("%s tried against %s, none matches",
		count(s.nmac+s.ned, "signature"), count(len(w.keys), "key"))
	bad := s.illFormed()
	switch {
	case s.nmac+s.ned == 0:
		return "webhook-signature has no v1 or v1a entry; other versions are not known here"
	case bad == s.nmac+s.ned:
		return tried + "; none of them is the base64 of a signature (v1: 32 bytes, v1a: 64 bytes)"
	case s.ned == 0 && w.macs == 0:
		return tried + "; only v1a signatures can match, because only whpk_ keys are set"
	case s.nmac == 0 && w.macs == len(w.keys):
		return tried + "; only v1 signatures can match, because only whsec_ secrets are set"
	default:
		return tried + "; sign the body's exact bytes with the secret that is set here"
	}
}

// illFormed counts the v1 and v1a entries that no signature can look like.
func (s *signatures) illFormed() int {
	macs, eds := s.decoded()
	return s.nmac + s.ned - len(macs) - len(eds)
}

// decoded are the signatures of the v1 and the v1a entries that look like one.
func (s *signatures) decoded() (macs, eds [][]byte) {
	for _, v := range s.macs[:s.nmac] {
		if mac, ok := decodeMAC(v); ok {
			macs = append(macs, mac[:])
		}
	}
	for _, v := range s.eds[:s.ned] {
		if sig, ok := decodeEd25519(v); ok {
			eds = append(eds, sig)
		}
	}
	return macs, eds
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// SignWebhook signs body as a sender does: with "whsec_…" it makes a v1
// signature, with "whsk_…" a v1a one. Errors name what is wrong with the id or
// the secret, without any part of the secret.
func SignWebhook(secret, id string, at time.Time, body []byte) (Header, error) {
	if id == "" {
		return Header{}, errors.New("webhook-id is empty")
	}
	if err := checkID(id); err != nil {
		return Header{}, err
	}
	if at.Unix() < 0 {
		return Header{}, errors.New("webhook-timestamp is before 1970")
	}
	h := Header{ID: id, Timestamp: strconv.FormatInt(at.Unix(), 10)}
	switch {
	case strings.HasPrefix(secret, prefixSecret):
		key, err := parseMACKey(secret)
		if err != nil {
			return Header{}, fmt.Errorf("the webhook secret %w", err)
		}
		st := macState{hash: newMAC(key)}
		h.Signature = versionMAC + "," + base64.StdEncoding.EncodeToString(st.compute(id, h.Timestamp, body))
	case strings.HasPrefix(secret, prefixPrivate):
		key, err := parsePrivate(secret)
		if err != nil {
			return Header{}, fmt.Errorf("the webhook key %w", err)
		}
		sig := ed25519.Sign(key, signedText(id, h.Timestamp, body))
		h.Signature = versionEd25519 + "," + base64.StdEncoding.EncodeToString(sig)
	case strings.HasPrefix(secret, prefixPublic):
		return Header{}, errors.New("the webhook key is a public key; signing needs the private one, whsk_…")
	case strings.TrimSpace(secret) == "":
		return Header{}, errors.New("the webhook secret is empty")
	case strings.TrimSpace(secret) != secret:
		return Header{}, errors.New("the webhook secret has white space around it")
	default:
		return Header{}, errors.New("the webhook secret must begin with whsec_ or whsk_")
	}
	return h, nil
}
