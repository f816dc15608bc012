package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"hookbridge/app/store/redis"
	"hookbridge/auth"
)

// Faults is all that is wrong with the settings, a line each. Lines name the
// setting, and have nothing of what may be secret.
type Faults []error

// Error is all lines.
func (f Faults) Error() string { return errors.Join(f...).Error() }

// Unwrap is the lines one by one.
func (f Faults) Unwrap() []error { return f }

func (f *Faults) Add(format string, args ...any) { *f = append(*f, fmt.Errorf(format, args...)) }

// take adds an error, or each of those that it joins, behind the setting's name.
func (f *Faults) take(setting string, err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && err.Error() == errors.Join(joined.Unwrap()...).Error() {
		for _, one := range joined.Unwrap() {
			f.take(setting, one)
		}
		return
	}
	if setting != "" {
		err = fmt.Errorf("%s: %w", setting, err)
	}
	*f = append(*f, err)
}

// orNil is an error where there are faults.
func (f Faults) orNil() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// Check finds all that serve must not start with.
func (s *Settings) Check() error { return s.Faults().orNil() }

func (s *Settings) Faults() (all Faults) {
	if len(s.WebhookSecrets) == 0 && s.SecretsFile == "" {
		all.Add("BRIDGE_WEBHOOK_SECRETS is missing (and so is BRIDGE_WEBHOOK_SECRETS_FILE): set it to a secret that only your backend knows, such as whsec_ and the output of: openssl rand -base64 32")
	} else {
		all = append(all, s.webhookFaults()...)
	}
	all = append(all, s.TokenFaults()...)
	all = append(all, s.callbackFaults()...)
	_, err := s.FrontSettings.parse(s.AllowedOrigins)
	all.take("", err)
	all.take("BRIDGE_LISTEN", checkListen(s.Listen))
	if sameListener(s.Listen, s.MetricsListen) {
		all.Add("BRIDGE_METRICS_LISTEN takes the port of BRIDGE_LISTEN: give /metrics another one")
	}
	if s.MaxBatchBytes < s.MaxBytes {
		all.Add("BRIDGE_MAX_BATCH_BYTES is %d and BRIDGE_MAX_BYTES %d: a batch must have room for the largest event", s.MaxBatchBytes, s.MaxBytes)
	}
	all.take("BRIDGE_AUDIT", checkEnds(s.Audit))
	switch s.Audit {
	case "", "off", "stderr", "stdout":
	default:
		if isFolder(s.Audit) || !isFolder(filepath.Dir(s.Audit)) {
			all.Add("BRIDGE_AUDIT must be off, stderr, stdout, or a file in a folder that there is")
		}
	}
	all = append(all, rangeFaults(reflect.ValueOf(s).Elem())...)
	return append(all, s.StoreSettings.otherFaults()...)
}

// webhookFaults are those of who may send. Each entry is looked at by itself first.
func (s *Settings) webhookFaults() (all Faults) {
	for i, w := range s.WebhookSecrets {
		secret := strings.TrimSpace(string(w))
		if IsDevWebhookSecret(secret) {
			all.Add("BRIDGE_WEBHOOK_SECRETS, entry %d, is a secret that dev made: make one of your own with: openssl rand -base64 32", i+1)
		} else if err := auth.CheckWebhookSecret(secret); err != nil {
			all.Add("BRIDGE_WEBHOOK_SECRETS: webhook secret %d of %d %w", i+1, len(s.WebhookSecrets), err)
		}
	}
	if len(all) == 0 {
		_, _, err := s.webhooks()
		all.take("", err)
	}
	return all
}

// Check finds what a store cannot be opened with.
func (s *StoreSettings) Check() error {
	return append(rangeFaults(reflect.ValueOf(s).Elem()), s.otherFaults()...).orNil()
}

// otherFaults are those that no range finds.
func (s *StoreSettings) otherFaults() (all Faults) {
	if s.RedisURL == "" {
		all.take("BRIDGE_DATA_DIR", checkEnds(s.DataDir))
		if s.DataDir == "" {
			all.Add("BRIDGE_DATA_DIR is empty: it is the folder of bridge.db")
		} else if _, err := os.Stat(s.DataDir); err == nil && !isFolder(s.DataDir) {
			all.Add("BRIDGE_DATA_DIR is a file: it must be the folder of bridge.db")
		}
		return all
	}
	all.take("BRIDGE_REDIS_URL", redis.CheckURL(string(s.RedisURL)))
	all.take("BRIDGE_REDIS_PREFIX", redis.CheckPrefix(s.RedisPrefix))
	return all
}

// checkEnds refuses white space around a setting that is taken to the letter: nobody means it.
func checkEnds(value string) error {
	if value != strings.TrimSpace(value) {
		return errors.New("it begins or ends with white space; take it away")
	}
	return nil
}

// checkListen refuses what is no address to listen on.
func checkListen(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return errors.New("it must be an address with a port, such as :8080 or 127.0.0.1:8080")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return errors.New("its port must be a number from 0 to 65535, such as :8080")
	}
	return nil
}

// sameListener tells whether two addresses cannot both be listened on: they have
// one port, and one host or one that means every host.
func sameListener(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil {
		return false
	}
	n, errA := strconv.Atoi(portA)
	m, errB := strconv.Atoi(portB)
	every := func(host string) bool {
		ip, err := netip.ParseAddr(host)
		return host == "" || err == nil && ip.IsUnspecified()
	}
	return errA == nil && errB == nil && n == m && n != 0 && (hostA == hostB || every(hostA) || every(hostB))
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// rangeFaults holds every number of a struct of settings to its range.
func rangeFaults(v reflect.Value) (all Faults) {
	for i := range v.NumField() {
		field, tag := v.Field(i), v.Type().Field(i).Tag
		if field.Kind() == reflect.Struct {
			all = append(all, rangeFaults(field)...)
			continue
		}
		low, high, ok := strings.Cut(tag.Get("range"), "..")
		if !ok {
			continue
		}
		if !within(field, low, high) {
			all.Add("%s is %v; it must be from %s to %s", tag.Get("env"), field.Interface(), low, high)
		}
	}
	return all
}

func within(v reflect.Value, low, high string) bool {
	switch n := v.Interface().(type) {
	case time.Duration:
		return n >= mustRead(time.ParseDuration(low)) && n <= mustRead(time.ParseDuration(high))
	case int:
		return n >= mustRead(strconv.Atoi(low)) && n <= mustRead(strconv.Atoi(high))
	case float64: // not a number is in no range
		return n >= mustRead(strconv.ParseFloat(low, 64)) && n <= mustRead(strconv.ParseFloat(high, 64))
	}
	panic("a range on a setting that is no number: " + v.Type().String())
}

// mustRead is for the ranges and defaults of this program's own, which tests read all.
func mustRead[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
