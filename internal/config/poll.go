package config

import (
	"errors"
	"strconv"
	"time"
)

// Poll is how a provider's log of events is read.
type Poll struct {
	Enabled   Choice        `koanf:"enabled" doc:"Read the provider's log of events, so that what no webhook brought is not lost: true or false; empty is true when api.key is set."`
	Every     time.Duration `koanf:"every" doc:"Time between two polls; 0 is 5s."`
	Since     string        `koanf:"since" doc:"Where the log is read from when it never was: a time such as 2026-11-01T00:00:00Z, or so long ago, such as 30d. Empty: from the oldest that the provider keeps."`
	Retention time.Duration `koanf:"retention" doc:"How long the provider keeps events, where it is not as long as it says; 0 is what it says: 90d with WorkOS."`
	Events    []string      `koanf:"events" doc:"The provider's names of the events to read; empty is all that Rollcall knows."`
}

// Choice is true, false, or empty where nobody chose.
type Choice string

// What can be chosen.
const (
	Yes Choice = "true"
	No  Choice = "false"
)

// readChoice reads what a file, a variable or a flag says.
func readChoice(value any) (Choice, error) {
	if value == "" {
		return "", nil
	}
	on, isBool := value.(bool)
	if text, isText := value.(string); isText {
		var err error
		on, err = strconv.ParseBool(text)
		isBool = err == nil
	}
	if !isBool {
		return "", errors.New("it is not true or false")
	}
	return Choice(strconv.FormatBool(on)), nil
}

// Polled reports whether the provider's log is read.
func (s Source) Polled() bool {
	if s.Poll.Enabled == "" {
		return s.API.Key != ""
	}
	return s.Poll.Enabled == Yes
}

// Webhooks reports whether the source sends webhooks. One that is polled may do without.
func (s Source) Webhooks() bool { return s.Secret != "" || !s.Polled() }

// Webhooks reports whether any source sends webhooks.
func (c Config) Webhooks() bool {
	for _, s := range c.Sources {
		if s.Webhooks() {
			return true
		}
	}
	return len(c.Sources) == 0
}

// Start is where the log is read from when it never was: at a time, or so long ago, or neither.
func (p Poll) Start() (at time.Time, ago time.Duration, err error) {
	if p.Since == "" {
		return at, 0, nil
	}
	if at, err = time.Parse(time.RFC3339, p.Since); err == nil {
		return at, 0, nil
	}
	if ago, err = ParseDuration(p.Since); err == nil && ago > 0 {
		return time.Time{}, ago, nil
	}
	return time.Time{}, 0, errors.New("it is neither a time such as 2026-11-01T00:00:00Z nor a duration such as 30d")
}

// checkPoll checks how a source is polled.
func (c Config) checkPoll(p *problems, name string) {
	s, key := c.Sources[name], "sources."+name+".poll"
	p.add(s.Poll.Enabled == Yes && s.API.Key == "" && c.Has(Worker), key+".enabled", "is true, and sources.%s.api.key is not set", name)
	p.add(s.Poll.Every < 0 || s.Poll.Every > 0 && s.Poll.Every < time.Second, key+".every", "%s is less than 1s", s.Poll.Every)
	p.add(s.Poll.Retention < 0, key+".retention", "%s is negative", s.Poll.Retention)
	p.add(s.Poll.Retention > c.Worker.MaxEventAge, key+".retention", "%s is more than worker.max_event_age (%s); the oldest would be ignored", formatDuration(s.Poll.Retention), formatDuration(c.Worker.MaxEventAge))
	if _, _, err := s.Poll.Start(); err != nil {
		p.add(true, key+".since", "%s", err)
	}
}
