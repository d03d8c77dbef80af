//go:build !race

package verify_test

import (
	"testing"

	"github.com/rollcallhq/rollcall/verify"
)

// Under the race detector pools forget on purpose, so this is measured without it; see `make test-race`.
func TestMACAllocatesNothing(t *testing.T) {
	v := verifier(t, scheme(t, "workos"))
	keys := []*verify.Key{key(t, v, "1"), key(t, v, "22")}
	h := sign(t, v, keys[1], now)
	if _, err := v.Verify(h, body, keys, now); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { _, _ = v.Verify(h, body, keys, now) }); n > 0.1 {
		t.Errorf("Verify() allocates %v times, want none", n)
	}
	if n := testing.AllocsPerRun(1000, func() { _ = v.Precheck(h) }); n > 0 {
		t.Errorf("Precheck() allocates %v times, want none", n)
	}
}
