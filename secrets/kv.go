package secrets

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/rs/zerolog"
)

// maxWalk is how many versions are looked at, the current one included. A write to another field makes a version too, so
// that more than MaxVersions may have to be seen to find as many values. It is what Vault keeps by default.
const maxWalk = 10

// user works with Vault under a token.
type user interface {
	do(ctx context.Context, work func(context.Context, *api.Client) error) error
}

// kvOrigin reads one field of a secret in a KV version 2 engine. A version never changes, so its value is read once; what
// is asked at each refresh is which versions there are. With versions numbered by Vault, version k is valid while it is
// neither deleted nor destroyed, and it is the current one or version k+1 is younger than the grace.
type kvOrigin struct {
	user   user
	mount  string
	path   string
	field  string
	config Config
	log    zerolog.Logger
	known  map[kvID]Secret // of the last read
	warned kvID
}

// kvID tells versions apart even after a path was deleted with its history, and begun anew.
type kvID struct {
	number  int
	created time.Time
}

// kvMetadata is the answer of metadata/.
type kvMetadata struct {
	Current  int                  `json:"current_version"`
	Custom   map[string]any       `json:"custom_metadata"`
	Versions map[string]kvVersion `json:"versions"`
}

type kvVersion struct {
	Created   time.Time `json:"created_time"`
	Deletion  kvTime    `json:"deletion_time"`
	Destroyed bool      `json:"destroyed"`
}

// kvTime is zero when Vault says "".
type kvTime struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (t *kvTime) UnmarshalJSON(text []byte) error {
	if string(text) == `""` || string(text) == "null" {
		t.Time = time.Time{}
		return nil
	}
	return t.Time.UnmarshalJSON(text)
}

func (c Config) kvOrigin(p place, u user) *kvOrigin {
	o := &kvOrigin{user: u, mount: p.mount, path: p.path, field: p.field, config: c, log: c.Log}
	if o.mount == "" {
		o.mount = c.Vault.Mount
	}
	return o
}

func (o *kvOrigin) dataPath() string     { return o.mount + "/data/" + o.path }
func (o *kvOrigin) metadataPath() string { return o.mount + "/metadata/" + o.path }

func (o *kvOrigin) read(ctx context.Context) answer {
	var a answer
	err := o.user.do(ctx, func(ctx context.Context, client *api.Client) error {
		a = o.readWith(ctx, client)
		return a.err
	})
	if err != nil && a.err == nil { // it did not come to reading
		a.err = err
	}
	return a
}

func (o *kvOrigin) readWith(ctx context.Context, client *api.Client) answer {
	m, err := o.metadata(ctx, client)
	if err != nil {
		return answer{err: err}
	}
	w := walk{kvOrigin: o, client: client, now: o.config.Now(), grace: o.grace(m), seen: map[kvID]Secret{}}
	w.over(ctx, m)
	o.known = w.seen
	return w.answer()
}

func (o *kvOrigin) metadata(ctx context.Context, client *api.Client) (kvMetadata, error) {
	answer, err := client.Logical().ReadWithContext(ctx, o.metadataPath())
	if err != nil {
		return kvMetadata{}, explain(err, "reading", o.metadataPath())
	}
	var m kvMetadata
	if answer != nil {
		if err := decode(answer.Data, &m); err != nil {
			return kvMetadata{}, fmt.Errorf("vault: reading %s: not the answer of a KV version 2 engine", o.metadataPath())
		}
	}
	if _, ok := m.Versions[strconv.Itoa(m.Current)]; !ok {
		return kvMetadata{}, fmt.Errorf("vault: %s: %w\nhint: there must be a KV version 2 engine at %s/ with this secret in it; the path is given without data/", o.metadataPath(), ErrMissing, o.mount)
	}
	return m, nil
}

// decode goes back to JSON, from which the Vault client made maps.
func decode(data map[string]any, into any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// grace is the secret's own, if its metadata name one, or the configured.
func (o *kvOrigin) grace(m kvMetadata) time.Duration {
	text, ok := m.Custom["grace"].(string)
	if !ok {
		return o.config.Grace
	}
	grace, err := time.ParseDuration(text)
	if err != nil || grace < 0 {
		return o.config.Grace
	}
	return grace
}

// walk goes from the current version back, as far as versions can still be valid.
type walk struct {
	*kvOrigin
	client *api.Client
	now    time.Time
	grace  time.Duration

	versions []Version
	seen     map[kvID]Secret
	problem  error // the first thing wrong
	failed   bool  // Vault did not say what a version holds
}

func (w *walk) over(ctx context.Context, m kvMetadata) {
	ends := time.Time{}
	for _, number := range m.newestFirst() {
		v := m.Versions[strconv.Itoa(number)]
		if !ends.IsZero() && !w.now.Before(ends) || len(w.versions) == MaxVersions {
			return
		}
		w.take(ctx, kvID{number, v.Created.UTC()}, v, ends)
		if number == m.Current && len(w.versions) == 0 && w.problem == nil {
			w.problem = fmt.Errorf("vault: %s: version %d: %w\nhint: write a new version", w.dataPath(), number, ErrDeleted)
		}
		ends = v.Created.Add(w.grace)
	}
}

// newestFirst returns the numbers of the versions from the current one back, at most maxWalk.
func (m kvMetadata) newestFirst() []int {
	var numbers []int
	for text := range m.Versions {
		if n, err := strconv.Atoi(text); err == nil && n <= m.Current {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers[:min(len(numbers), maxWalk)]
}

// take adds the version if it is valid and its value is not there already, under a newer number.
func (w *walk) take(ctx context.Context, id kvID, v kvVersion, ends time.Time) {
	if v.Destroyed {
		return
	}
	secret, there, err := w.value(ctx, id, v)
	if err != nil && w.problem == nil {
		w.problem = err
	}
	if !there {
		return
	}
	w.seen[id] = secret
	if i := slices.IndexFunc(w.versions, func(v Version) bool { return v.Secret.Equal(secret) }); i >= 0 {
		w.versions[i].Created = id.created // the newer one was a write to another field
		return
	}
	if at := v.Deletion.Time; !at.IsZero() && (ends.IsZero() || at.Before(ends)) {
		ends = at
		w.warn(id, at)
	}
	w.versions = append(w.versions, Version{ID: strconv.Itoa(id.number), Secret: secret, Created: id.created, Expires: ends})
}

// value returns what the version holds, if it is there. A version that has a time of deletion is asked for again: whether
// that has come is for Vault's clock to say.
func (w *walk) value(ctx context.Context, id kvID, v kvVersion) (secret Secret, there bool, err error) {
	secret, there = w.known[id]
	if there && v.Deletion.IsZero() {
		return secret, true, nil
	}
	answer, err := w.client.Logical().ReadWithDataWithContext(ctx, w.dataPath(), map[string][]string{"version": {strconv.Itoa(id.number)}})
	if err != nil {
		w.failed = true
		return secret, there, explain(err, "reading", w.dataPath())
	}
	if answer == nil || answer.Data["data"] == nil {
		return Secret{}, false, nil
	}
	secret, err = w.fieldOf(answer.Data["data"], id.number)
	return secret, err == nil, err
}

func (w *walk) fieldOf(data any, number int) (Secret, error) {
	fields, _ := data.(map[string]any)
	value, there := fields[w.field]
	if !there {
		return Secret{}, fmt.Errorf("vault: %s: version %d has no field %q: %w\nhint: write a version that has it; the one before stays valid for the grace", w.dataPath(), number, w.field, ErrMissing)
	}
	text, ok := value.(string)
	if !ok {
		return Secret{}, fmt.Errorf("vault: %s: field %q of version %d is not a string", w.dataPath(), w.field, number)
	}
	if err := w.config.refuse([]byte(text)); err != nil {
		return Secret{}, fmt.Errorf("vault: %s: field %q of version %d: %w", w.dataPath(), w.field, number, err)
	}
	return newSecret([]byte(text)), nil
}

func (w *walk) warn(id kvID, at time.Time) {
	if w.warned == id {
		return
	}
	w.warned = id
	w.log.Warn().Str("path", w.dataPath()).Int("version", id.number).Time("ends", at).
		Msg("Vault will delete this version of the secret; write a new one before, or take delete_version_after off")
}

func (w *walk) answer() answer {
	if len(w.versions) > 0 {
		return answer{versions: w.versions, known: true, err: w.problem}
	}
	if w.failed {
		return answer{err: w.problem}
	}
	return answer{known: true, err: join(ErrNoCurrent, w.problem)}
}
