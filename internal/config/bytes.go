package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size. It is written as a number of bytes, or with KiB, MiB or GiB.
type Bytes int64

var units = []struct {
	suffix string
	size   int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// UnmarshalText reads "1MiB", "64KiB", "1048576".
func (b *Bytes) UnmarshalText(text []byte) error {
	number, size := strings.TrimSpace(string(text)), int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, size = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<40)/size {
		return fmt.Errorf("%q is not a size such as 1MiB", text)
	}
	*b = Bytes(n * size)
	return nil
}

// MarshalText writes the largest unit that divides the size.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

func (b Bytes) String() string {
	for _, u := range units {
		if b > 0 && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// ParseDuration reads what time.ParseDuration does, and days before it: "95d", "1d12h".
func ParseDuration(text string) (time.Duration, error) {
	days, rest, found := strings.Cut(text, "d")
	if !found {
		days, rest = "0", text
	}
	n, err := strconv.ParseUint(days, 10, 16)
	more := time.Duration(0)
	if rest != "" || !found {
		var wrong error
		more, wrong = time.ParseDuration(rest)
		err = errors.Join(err, wrong)
	}
	if err != nil || found && more < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 30s, 24h or 95d", text)
	}
	return time.Duration(n)*24*time.Hour + more, nil
}

// formatDuration writes a duration as ParseDuration reads it, as short as it can: "95d", "24h", "90s".
func formatDuration(d time.Duration) string {
	switch day := 24 * time.Hour; {
	case d == 0:
		return "0s"
	case d%day == 0 && d > day:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	case d%time.Hour == 0:
		return strconv.FormatInt(int64(d/time.Hour), 10) + "h"
	case d%time.Minute == 0:
		return strconv.FormatInt(int64(d/time.Minute), 10) + "m"
	default:
		return d.String()
	}
}
