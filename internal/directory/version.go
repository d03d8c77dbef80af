package directory

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Version orders events. It is made from the event alone and compared bytewise:
// 16 hex digits of Occurred in µs, the rank (1 if the event takes access away, else 0), 16 hex digits of Updated in
// µs, then the event's id, so no two events share one. The empty Version is less than all others.
type Version string

// Version returns the event's own.
func (e *Event) Version() Version {
	rank := "0"
	if e.Removes {
		rank = "1"
	}
	return Version(micros(e.Occurred) + rank + micros(e.Updated) + e.ID)
}

// Time returns the Occurred of the event that has this version, or the zero time for the empty version.
func (v Version) Time() time.Time {
	var us int64
	if len(v) < 16 {
		return time.Time{}
	}
	if _, err := fmt.Sscanf(string(v[:16]), "%016x", &us); err != nil {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// Updated returns the Updated of the event that has this version, or the zero time when it had none.
func (v Version) Updated() time.Time {
	if len(v) < 33 {
		return time.Time{}
	}
	us, err := strconv.ParseInt(string(v[17:33]), 16, 64)
	if err != nil || us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// EventID returns the id of the event that has this version, or "" for the empty version.
func (v Version) EventID() string {
	if len(v) < 33 {
		return ""
	}
	return string(v[33:])
}

const hexDigits = "0123456789abcdef"

func micros(t time.Time) string {
	var us int64
	if !t.IsZero() {
		us = max(t.UnixMicro(), 0)
	}
	var b [16]byte
	for i := range b {
		b[15-i] = hexDigits[us>>(4*i)&0xf]
	}
	return string(b[:])
}

// ULIDTime returns the time in an id that ends in a ULID ("event_01EHZ…", "directory_user_01E1…").
// Source: the ULID specification, 48 bits of Unix ms in Crockford's base 32.
func ULIDTime(id string) (time.Time, bool) {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	ulid := id[strings.LastIndexByte(id, '_')+1:]
	if len(ulid) != 26 || ulid[0] > '7' {
		return time.Time{}, false
	}
	var ms int64
	for i := range len(ulid) {
		digit := strings.IndexByte(alphabet, ulid[i])
		if digit < 0 {
			return time.Time{}, false
		}
		if i < 10 {
			ms = ms<<5 | int64(digit)
		}
	}
	return time.UnixMilli(ms).UTC(), true
}

// At is less than the version of every event of that time or later, and greater than the others'.
func At(t time.Time) Version { return Version(micros(t)) }
