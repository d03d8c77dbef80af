package workos_test

import (
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/directory"
	"github.com/rollcallhq/rollcall/internal/provider"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
)

func TestEverySampleIsAnEventOfItsNameAndTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 7, 31, 10, 0, 0, 123e6, time.UTC)
	if n := len(workos.Samples()); n != 10 {
		t.Fatalf("Samples() has %d names, want the ten of Directory Sync", n)
	}
	seen := map[string]bool{}
	for _, name := range workos.Samples() {
		body, id, err := workos.Sample(name, at)
		if err != nil {
			t.Fatal(err)
		}
		got, err := workos.Provider().Decode(body, provider.Options{Source: "workos"})
		if err != nil || len(got) != 1 || got[0].Event == nil {
			t.Fatalf("Decode(%s) = %+v, %v", name, got, err)
		}
		e := got[0].Event
		if e.Type != name || e.ID != id || !e.Occurred.Equal(at) || seen[id] {
			t.Errorf("%s: type %s, id %s (want %s, a new one), at %s", name, e.Type, e.ID, id, e.Occurred)
		}
		if inID, ok := directory.ULIDTime(id); !ok || !inID.Equal(at) {
			t.Errorf("%s: the time in its id is %s, %t; want %s", id, inID, ok, at)
		}
		seen[id] = true
	}
}
