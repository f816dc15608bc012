//go:build unix

package main

import (
	"strings"
	"testing"

	"hookbridge/app/expect"
)

func TestDescriptors(t *testing.T) {
	expect.NoError(t, enoughDescriptors(700, 1000))
	if err := enoughDescriptors(5000, 1024); err == nil || !strings.Contains(err.Error(), "ulimit -n 5300") || !strings.Contains(err.Error(), "--sessions 724") {
		t.Error(err)
	}
}
