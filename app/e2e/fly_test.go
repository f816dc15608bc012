package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"hookbridge/app/expect"
	"hookbridge/app/server"
)

type flyConfig struct {
	App           string            `toml:"app"`
	PrimaryRegion string            `toml:"primary_region"`
	KillSignal    string            `toml:"kill_signal"`
	KillTimeout   string            `toml:"kill_timeout"`
	Build         map[string]string `toml:"build"`
	Env           map[string]string `toml:"env"`
	Mounts        struct {
		Source      string `toml:"source"`
		Destination string `toml:"destination"`
		InitialSize string `toml:"initial_size"`
	} `toml:"mounts"`
	HTTPService struct {
		InternalPort int    `toml:"internal_port"`
		ForceHTTPS   bool   `toml:"force_https"`
		AutoStop     string `toml:"auto_stop_machines"`
		AutoStart    bool   `toml:"auto_start_machines"`
		MinRunning   int    `toml:"min_machines_running"`
		Concurrency  struct {
			Type string `toml:"type"`
			Soft int    `toml:"soft_limit"`
			Hard int    `toml:"hard_limit"`
		} `toml:"concurrency"`
		Checks []struct {
			Method, Path, Interval, Timeout string
			GracePeriod                     string `toml:"grace_period"`
		} `toml:"checks"`
	} `toml:"http_service"`
	Deploy struct {
		Strategy       string `toml:"strategy"`
		MaxUnavailable int    `toml:"max_unavailable"`
	} `toml:"deploy"`
	Metrics []struct {
		Port int
		Path string
	} `toml:"metrics"`
	VM []struct {
		Size, Memory string
	} `toml:"vm"`
}

func atoi(s string) (n int) {
	for _, r := range s {
		n = n*10 + int(r-'0')
	}
	return n
}

// The pitfalls that Fly's own validator lets through are asserted here: each
// one has taken somebody's sessions or data.
func deployFly(t *testing.T) {
	t.Parallel()
	var c flyConfig
	meta, err := toml.DecodeFile("../../fly.toml", &c)
	expect.NoError(t, err)
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		t.Errorf("keys that Fly does not know: %v", unknown)
	}
	h := c.HTTPService
	duration := func(name, s string) time.Duration {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return d
	}
	kill, drain := duration("kill_timeout", c.KillTimeout), duration("BRIDGE_DRAIN_TIMEOUT", c.Env["BRIDGE_DRAIN_TIMEOUT"])
	interval, timeout := duration("interval", h.Checks[0].Interval), duration("timeout", h.Checks[0].Timeout)
	for name, ok := range map[string]bool{
		"the signal is one that starts the drain":               c.KillSignal == "SIGTERM" || c.KillSignal == "SIGINT",
		"the drain, the shutdown and the store fit the kill":    kill >= drain+server.ShutdownTimeout+5*time.Second,
		"shared CPUs get at most 300 s":                         kill <= 300*time.Second,
		"the port is the one that is listened on":               c.Env["BRIDGE_LISTEN"] == ":8080" && h.InternalPort == 8080,
		"the volume is where the store is":                      c.Mounts.Destination == c.Env["BRIDGE_DATA_DIR"] && c.Mounts.Source != "",
		"a volume has at least 1 GB":                            c.Mounts.InitialSize == "1gb",
		"a volume allows neither canary nor bluegreen":          c.Deploy.Strategy == "rolling" && c.Deploy.MaxUnavailable == 1,
		"people's connections are not stopped for being idle":   h.AutoStop == "off" && h.MinRunning == 1,
		"concurrency counts connections":                        h.Concurrency.Type == "connections",
		"limits are real ones":                                  h.Concurrency.Soft >= 1000 && h.Concurrency.Hard > h.Concurrency.Soft,
		"the proxy sends more than the program takes, not less": h.Concurrency.Hard > atoi(c.Env["BRIDGE_MAX_SESSIONS"]),
		"a service check asks for readiness":                    len(h.Checks) == 1 && h.Checks[0].Path == "/readyz" && h.Checks[0].Method == "GET",
		"the check's times are ones that Fly takes":             interval >= 2*time.Second && timeout >= time.Second && timeout <= 60*time.Second,
		"tokens travel over TLS only":                           h.ForceHTTPS,
		"metrics are scraped, and not published":                len(c.Metrics) == 1 && c.Metrics[0].Path == "/metrics" && c.Env["BRIDGE_METRICS_LISTEN"] == fmt.Sprint(":", c.Metrics[0].Port) && c.Metrics[0].Port != h.InternalPort,
		"memory is one that Fly sells":                          len(c.VM) == 1 && c.VM[0].Memory == "256mb",
		"the collector knows the memory's size":                 c.Env["GOMEMLIMIT"] != "",
		"no secret stands in the file":                          c.Env["BRIDGE_WEBHOOK_SECRETS"] == "" && c.Env["BRIDGE_JWT_SECRET"] == "",
	} {
		if !ok {
			t.Errorf("not so in fly.toml: %s", name)
		}
	}
	if _, err := os.Stat("../../" + c.Build["dockerfile"]); err != nil {
		t.Error(err)
	}
}

func deployImage(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../deploy/Dockerfile")
	expect.NoError(t, err)
	for _, want := range []string{"CGO_ENABLED=0", "FROM scratch", "USER 65532", "ca-certificates.crt", `CMD ["serve"]`, "STOPSIGNAL SIGTERM"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the Dockerfile lacks %s", want)
		}
	}
}
