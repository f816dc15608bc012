package handlers

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestDemoCallbacks(t *testing.T) {
	t.Run("are remembered, the last ones", demoCallbacksAreKept)
	t.Run("of a dev that starts again are all new to an open page", demoCallbacksOfRestart)
}

func TestDemoHost(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:8080": true, "LocalHost.:8080": true, "page.localhost:1": true, "127.0.0.1:8080": true, "127.8.8.8": true,
		"[::1]:8080": true, "[::1]": true, "::1": true, "[::ffff:127.0.0.1]:80": true,
		"": false, ":8080": false, "evil.example:8080": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "notlocalhost": false,
		"10.0.0.1:8080": false, "0.0.0.0:8080": false, "[::]:8080": false, "127.1": false, "2130706433": false,
	} {
		if got := isLoopbackHost(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func demoCallbacksOfRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := &DemoCallbacks{}
		for i := range 3 {
			before.Add(fmt.Sprintf("before_%d", i), []byte(`{"type":"user.online","data":{"user":"a"}}`))
		}
		seen, _ := toldOf(t, before, "a", 0)
		time.Sleep(time.Second) // of the bubble's clock
		after := &DemoCallbacks{}
		if last, ids := toldOf(t, after, "a", seen); last != 0 || ids != nil {
			t.Errorf("at first there are %v, up to %d", ids, last)
		}
		after.Add("after_1", []byte(`{"type":"user.online","data":{"user":"a"}}`))
		if last, ids := toldOf(t, after, "a", seen); last <= seen || fmt.Sprint(ids) != "[after_1]" {
			t.Errorf("the page that has seen %d is told of %v, up to %d", seen, ids, last)
		}
	})
}

// toldOf lists what the page is told about a user.
func toldOf(t *testing.T, d *DemoCallbacks, user string, after int64) (last int64, ids []string) {
	t.Helper()
	var got struct {
		Last      int64
		Callbacks []struct {
			ID   string
			Body json.RawMessage
		}
	}
	if err := json.Unmarshal(d.about(user, after), &got); err != nil {
		t.Fatal(err)
	}
	for _, c := range got.Callbacks {
		ids = append(ids, c.ID)
	}
	return got.Last, ids
}

func demoCallbacksAreKept(t *testing.T) {
	d := &DemoCallbacks{}
	about := func(user string, after int64) (int64, []string) { return toldOf(t, d, user, after) }
	if last, ids := about("a", 0); last != 0 || ids != nil {
		t.Errorf("at first there are %v, up to %d", ids, last)
	}
	d.Add("cb_1", []byte(`{"type":"user.online","data":{"user":"a"}}`))
	first, _ := about("a", 0)
	d.Add("cb_2", []byte(`{"type":"message.sent","data":{"from":"a","event":{"data":{"x":1,"x":"\ud83d"}}}}`))
	d.Add("cb_3", []byte(`{"type":"user.online","data":{"user":"b"}}`))
	d.Add("cb_2", []byte(`{"type":"message.sent","data":{"from":"a"}}`)) // sent again
	if last, ids := about("a", 0); last != first+2 || fmt.Sprint(ids) != "[cb_1 cb_2]" {
		t.Errorf("of a: %v, up to %d", ids, last)
	}
	if last, ids := about("a", first); last != first+2 || fmt.Sprint(ids) != "[cb_2]" {
		t.Errorf("of a, later: %v, up to %d", ids, last)
	}
	for i := range maxDemoCallbacks {
		d.Add(fmt.Sprintf("more_%d", i), []byte(`{"type":"user.online","data":{"user":"c"}}`))
	}
	if _, ids := about("a", 0); ids != nil {
		t.Errorf("the oldest stay: %v", ids)
	}
	if last, ids := about("c", 0); last != first+2+maxDemoCallbacks || len(ids) != maxDemoCallbacks {
		t.Errorf("of c: %d, up to %d", len(ids), last)
	}
}
