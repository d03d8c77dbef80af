package app

import (
	"io"
	"time"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/config"
)

// NewLog returns the process's log.
func NewLog(c config.Log, out io.Writer) zerolog.Logger {
	if c.Format == "console" {
		out = zerolog.ConsoleWriter{Out: out, TimeFormat: time.TimeOnly}
	}
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil {
		level = zerolog.InfoLevel
	}
	zerolog.TimeFieldFormat = time.RFC3339Nano
	zerolog.DurationFieldUnit = time.Millisecond
	return zerolog.New(out).Level(level).With().Timestamp().Logger()
}
