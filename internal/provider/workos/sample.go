package workos

import (
	"crypto/rand"
	"embed"
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

//go:embed samples/*.json
var samples embed.FS

// Samples returns the names of the built-in samples, which are the types of events. They are of one directory, person
// and group, so that sending several tells a story.
func Samples() []string {
	files, _ := fs.Glob(samples, "samples/*.json")
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(f, "samples/"), ".json"))
	}
	slices.Sort(names)
	return names
}

// Sample returns the body of a sample as if it had happened at the time, under a new id, and the id.
func Sample(name string, at time.Time) (body []byte, id string, err error) {
	text, err := samples.ReadFile("samples/" + name + ".json")
	if err != nil {
		return nil, "", fmt.Errorf("no sample is called %q\nhint: there is %s", name, strings.Join(Samples(), ", "))
	}
	id = newEventID(at)
	return []byte(strings.NewReplacer("{{event}}", id, "{{now}}", at.UTC().Format("2006-01-02T15:04:05.000Z")).Replace(string(text))), id, nil
}

// newEventID is "event_" and a ULID: 48 bits of Unix ms, then 80 random ones, in Crockford's base 32.
func newEventID(at time.Time) string {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(at.UnixMilli())<<16)
	_, _ = rand.Read(raw[6:]) // never fails
	var out [26]byte
	high, low := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = alphabet[low&31]
		low = low>>5 | high<<59
		high >>= 5
	}
	return "event_" + string(out[:])
}
