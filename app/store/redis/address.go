package redis

import (
	"errors"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

var (
	errURL      = errors.New("the URL must be redis://[user:password@]host:port, or rediss:// for TLS")
	errPort     = errors.New("the port in the URL must be a number from 1 to 65535")
	errEncoding = errors.New("the user or the password in the URL has characters that must be percent-encoded there: " +
		"%23 for #, %2F for /, %3F for ?, %25 for %, %40 for @, %5B and %5D for [ and ], %20 for a blank")
)

// CheckURL says what is wrong with Options.URL. The error has no part of the URL in it,
// which may have a password; the parsers' own errors would repeat it.
func CheckURL(text string) error {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme != "redis" && scheme != "rediss" && scheme != "unix" {
		return errURL
	}
	u, err := url.Parse(text)
	named := strings.Contains(rest, "@") // with a user or a password, by the look of it
	switch {
	case err != nil && named:
		return errEncoding
	case err != nil:
		return errURL
	case named && u.User == nil:
		// A / ? or # in the password has ended the address before the @.
		return errEncoding
	}
	if _, err := rueidis.ParseURL(text); err != nil {
		return errURL
	}
	if u.Hostname() == "" && scheme != "unix" {
		return errURL
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || port == 0) {
		return errPort
	}
	return nil
}

// CheckPrefix says what is wrong with Options.Prefix.
func CheckPrefix(prefix string) error {
	if strings.ContainsAny(prefix, "{} \n*?[]\\") { // Redis takes braces for a hash tag, and the others for a pattern
		return errors.New(`a prefix has no blanks and none of { } * ? [ ] \`)
	}
	return nil
}
