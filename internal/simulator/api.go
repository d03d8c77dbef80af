package simulator

import (
	"crypto/subtle"
	"encoding/json"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// APIConfig says how an [API] answers. Its zero value, with a Key, is quick, exact and whole, and keeps the limits of production.
type APIConfig struct {
	Key string // that the caller must show as a bearer

	Lag       time.Duration // about how much later than its webhook an event becomes visible: half of this to half as much again
	Retention time.Duration // of events; 0 is 90 days
	Skew      time.Duration // of the Date header against the world's clock

	Unlimited bool             // keep no rate limits
	Clock     func() time.Time // of the rate limits; nil is time.Now
	Trouble   float64          // share of requests that are answered by a 429 or a 500 for no reason
	Seed      uint64           // of that, and of the faults

	Faults ListingFaults
}

// ListingFaults are how listings of people and groups mislead. Who asks for one by its id is told the truth.
type ListingFaults struct {
	Lacking    float64 // share of people who are not listed, always the same; nobody is told
	CountsToo  bool    // a directory's counts lack them, too
	Ghosts     float64 // share of those no longer active who are listed as they were, active, and not updated since
	CutShort   float64 // share of pages after which the listing ends though there is more, always at the same places
	Disconnect float64 // share of pages in whose middle the connection ends
}

// API answers as WorkOS' API does: GET /events, /directories, /directory_users and /directory_groups of a World. Its sources are
// https://workos.com/docs/reference and recorded answers; where they do not say, it does the harder thing.
//
//   - The events come oldest first, whatever order asks for, and only those whose types are asked for by name.
//   - An event becomes visible some time after its webhook, and never behind one that was visible before it.
//   - An id is a cursor as soon as the event is in the log, visible or not: whoever takes one from a webhook loses what lies between.
//   - No request goes back or forth more than 30 days: without a range it begins 30 days ago.
//   - Listings come newest first unless asked otherwise, and tell the groups of nobody.
type API struct {
	world *World
	mux   *http.ServeMux

	mu     sync.Mutex // guards all that follows
	config APIConfig
	down   bool
	random *rand.Rand
	shown  int // how many events are visible
	recent map[string]*window
	stats  APIStats
}

// APIStats are how often an API was asked.
type APIStats struct {
	Requests int         // all of them
	Status   map[int]int // of each status
	Events   int         // events told
	Listed   int         // people and groups listed
}

// NewAPI returns an API of a world.
func NewAPI(world *World, config APIConfig) *API {
	a := &API{
		world: world, config: config, random: rand.New(rand.NewPCG(config.Seed, 47)), mux: http.NewServeMux(), recent: map[string]*window{},
		stats: APIStats{Status: map[int]int{}},
	}
	a.mux.HandleFunc("GET /events", a.events)
	a.mux.HandleFunc("GET /directories", a.listDirectories)
	a.mux.HandleFunc("GET /directories/{id}", a.getDirectory)
	a.mux.HandleFunc("GET /directory_users", a.listUsers)
	a.mux.HandleFunc("GET /directory_users/{id}", a.getUser)
	a.mux.HandleFunc("GET /directory_groups", a.listGroups)
	a.mux.HandleFunc("GET /directory_groups/{id}", a.getGroup)
	a.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { notFound(w) })
	return a
}

// Change changes how it answers from now on, but for Seed.
func (a *API) Change(how func(*APIConfig)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	how(&a.config)
}

// SetDown begins or ends an outage: every request is answered by a 503.
func (a *API) SetDown(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
}

// Stats returns how often it was asked so far.
func (a *API) Stats() APIStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.stats
	out.Status = map[int]int{}
	for status, n := range a.stats.Status {
		out.Status[status] = n
	}
	return out
}

func (a *API) settings() APIConfig {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.config
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	config := a.settings()
	w.Header().Set("Date", a.world.Now().Add(config.Skew).UTC().Format(http.TimeFormat))
	counted := &counting{ResponseWriter: w, api: a}
	switch trouble := a.trouble(config); {
	case trouble == http.StatusServiceUnavailable:
		fail(counted, trouble, message{Message: "Service Unavailable"})
	case !authorized(r, config.Key):
		fail(counted, http.StatusUnauthorized, message{Message: "Unauthorized"})
	case trouble == http.StatusTooManyRequests, !a.allows("key", 6000, time.Minute):
		throttle(counted)
	case trouble != 0:
		fail(counted, trouble, message{Message: "Internal Server Error"})
	default:
		a.mux.ServeHTTP(counted, r)
	}
}

// authorized reports whether the request shows the key. An API without a key refuses all.
func authorized(r *http.Request, key string) bool {
	shown, is := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return is && key != "" && subtle.ConstantTimeCompare([]byte(shown), []byte(key)) == 1
}

// trouble is the status of what goes wrong for no reason of the caller's; 0 is nothing.
func (a *API) trouble(config APIConfig) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stats.Requests++
	switch {
	case a.down:
		return http.StatusServiceUnavailable
	case a.random.Float64() >= config.Trouble:
		return 0
	case a.random.IntN(2) == 0:
		return http.StatusTooManyRequests
	default:
		return http.StatusInternalServerError
	}
}

// window is when the last requests of a rate limit were allowed, oldest first.
type window struct{ times []time.Time }

// allows reports whether one more request keeps the limit of so many in a time, and remembers it.
func (a *API) allows(what string, most int, per time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.config.Unlimited {
		return true
	}
	now := time.Now()
	if a.config.Clock != nil {
		now = a.config.Clock()
	}
	w := a.recent[what]
	if w == nil {
		w = &window{}
		a.recent[what] = w
	}
	for len(w.times) > 0 && now.Sub(w.times[0]) >= per {
		w.times = w.times[1:]
	}
	if len(w.times) >= most {
		return false
	}
	w.times = append(w.times, now)
	return true
}

// counting counts answers.
type counting struct {
	http.ResponseWriter
	api *API
}

// WriteHeader implements http.ResponseWriter.
func (c *counting) WriteHeader(status int) {
	c.api.mu.Lock()
	c.api.stats.Status[status]++
	c.api.mu.Unlock()
	c.ResponseWriter.WriteHeader(status)
}

// message is the body of an answer that is no success.
type message struct {
	Message string  `json:"message"`
	Code    string  `json:"code,omitempty"`
	Errors  []field `json:"errors,omitempty"`
}

type field struct {
	Field string `json:"field"`
	Code  string `json:"code"`
}

func fail(w http.ResponseWriter, status int, m message) { answer(w, status, m) }

func notFound(w http.ResponseWriter) { fail(w, http.StatusNotFound, message{Message: "Not Found"}) }

// throttle is the answer of a rate limit: a JSON string, without a Retry-After.
func throttle(w http.ResponseWriter) { answer(w, http.StatusTooManyRequests, "Ratelimited") }

func invalid(w http.ResponseWriter, fields ...field) {
	fail(w, http.StatusUnprocessableEntity, message{Message: "Validation failed", Errors: fields})
}

func answer(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // nothing but texts and numbers
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(text) // who went away does not read it
}

// list is the body of a page.
type list struct {
	Object       string `json:"object"`
	Data         any    `json:"data"`
	ListMetadata any    `json:"list_metadata"`
}

// limitOf reads the parameter; ok is false when it was answered as invalid.
func limitOf(w http.ResponseWriter, r *http.Request) (limit int, ok bool) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return 10, true
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > 100 {
		invalid(w, field{"limit", "limit must be between 1 and 100"})
		return 0, false
	}
	return limit, true
}

// chance is a number from 0 to 1 that is always the same for an id and a purpose.
func chance(seed uint64, purpose, id string) float64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, purpose+id)
	return rand.New(rand.NewPCG(seed, h.Sum64())).Float64()
}
