package redis

import (
	"strings"
	"testing"
)

func TestURL(t *testing.T) {
	t.Parallel()
	t.Run("that needs percent-encoding says so", urlNeedsEncoding)
}

func urlNeedsEncoding(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"redis://127.0.0.1:6379":                         "",
		"redis://127.0.0.1:6379/0":                       "",
		"rediss://user:p%40ss%23word@redis.example:6380": "",
		"redis://:password@redis.example:6379":           "",
		"redis://user:p@ss@redis.example:6379":           "", // the last @ counts
		"redis://redis.example:6379?addr=b:6379":         "",
		"redis://[::1]:6379":                             "",
		"":                                               "must be redis://",
		"redis.example:6379":                             "must be redis://",
		"http://canary@redis.example":                    "must be redis://",
		"redis://":                                       "must be redis://",
		"redis://canary:99999":                           "1 to 65535",
		"rediss://user:canary@redis.example:0":           "1 to 65535",
		"redis://user:can#ary@redis.example:6379":        "percent-encoded",
		"redis://user:can/ary@redis.example:6379":        "percent-encoded",
		"redis://user:can?ary@redis.example:6379":        "percent-encoded",
		"redis://user:can%ary@redis.example:6379":        "percent-encoded",
		"redis://user:can ary@redis.example:6379":        "percent-encoded",
		"redis://user:can[ary@redis.example:6379":        "percent-encoded",
		"redis://user:can\\ary@redis.example:6379":       "percent-encoded",
		"redis://user:1/canary@redis.example:6379":       "percent-encoded",
		"redis://user:1?canary@redis.example:6379":       "percent-encoded",
		"redis://user:1#canary@redis.example:6379":       "percent-encoded",
		"redis://us/er:canary@redis.example:6379":        "percent-encoded",
		"redis://user:canary@redis.example:port":         "percent-encoded",
	} {
		err := CheckURL(text)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", text, err, want)
		case err != nil && (strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "example:")):
			t.Errorf("it repeats a part of the URL: %v", err)
		}
	}
}
