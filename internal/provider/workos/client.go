package workos

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cenkalti/backoff/v5"

	"github.com/rollcallhq/rollcall/internal/provider"
)

// DefaultURL is where the API is.
const DefaultURL = "https://api.workos.com"

const (
	tries        = 5                // of one request, at most
	askWithin    = 30 * time.Second // one try
	headerWithin = 20 * time.Second // of it, until the answer begins
	longestWait  = time.Minute      // that a Retry-After may ask for; for longer ones the caller waits
	largest      = 16 << 20         // bytes of an answer; one of 100 users has about 100 KB
)

// Client asks the API: it implements provider.API. It may be used by many goroutines at once, which share its rate limits.
type Client struct {
	config provider.APIConfig
	base   *url.URL
	http   *http.Client
	limits limits
}

var _ provider.API = (*Client)(nil)

// NewClient returns a client that has asked nothing yet. The address must be https, or of this machine.
func NewClient(c provider.APIConfig) (*Client, error) {
	base, err := provider.ParseURL(cmp.Or(c.URL, DefaultURL))
	if err != nil {
		return nil, fmt.Errorf("workos: the API's address: %w", err)
	}
	if c.Key == nil {
		return nil, errors.New("workos: the API has no key")
	}
	c.UserAgent = cmp.Or(c.UserAgent, "rollcall")
	if c.Now == nil {
		c.Now = time.Now
	}
	h := &http.Client{Transport: newTransport()}
	if c.HTTP != nil {
		*h = *c.HTTP
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // and the key stays here
	return &Client{config: c, base: base, http: h, limits: newLimits()}, nil
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: headerWithin, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, MaxResponseHeaderBytes: 64 << 10,
	}
}

// Close gives back the connections that nobody uses. Requests under way go on.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// request is one thing to ask.
type request struct {
	what  string // for errors: "list users of directory_…"
	path  string
	query url.Values
	paces []*pace // limits, the narrowest last
}

// ask sends the request until there is an answer, reads it into a value, and returns the provider's clock. What passes is tried
// again: limits, the server's own trouble, the network's, an answer that broke off. The error is a *refusal where the provider
// answered, and says what to do.
func (c *Client) ask(ctx context.Context, r request, into any) (date time.Time, err error) {
	waits := backoff.NewExponentialBackOff()
	waits.MaxInterval = longestWait / 2
	for n := 1; ; n++ {
		for _, p := range r.paces {
			if err := p.wait(ctx); err != nil {
				return date, fmt.Errorf("workos: %s: %w", r.what, err)
			}
		}
		a, err := c.try(ctx, r)
		if err == nil {
			err = read(a, into)
		}
		if err == nil {
			return a.date, nil
		}
		if ctx.Err() != nil {
			return date, fmt.Errorf("workos: %s: %w", r.what, ctx.Err())
		}
		asked := a.retryAfter(c.config.Now)
		wait := asked + waits.NextBackOff()
		if a.status == http.StatusTooManyRequests {
			r.paces[len(r.paces)-1].hold(min(wait, longestWait))
		}
		if !passes(err) || n == tries || asked > longestWait {
			return date, c.explain(r, err, asked)
		}
		c.config.Log.Debug().Str("source", c.config.Options.Source).Str("request", r.what).Int("try", n).Dur("wait", wait).Err(err).Msg("the provider's API is asked again")
		if err := pause(ctx, wait); err != nil {
			return date, fmt.Errorf("workos: %s: %w", r.what, err)
		}
	}
}

// answer is what came back. Its zero value is that nothing did.
type answer struct {
	status int
	header http.Header
	date   time.Time
	body   []byte
	key    string // that was sent, to be struck out
}

// try sends the request once. An error is the network's, or the key's.
func (c *Client) try(ctx context.Context, r request) (a answer, err error) {
	if a.key, err = c.key(); err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	u := c.base.JoinPath(r.path)
	u.RawQuery = r.query.Encode()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return a, errors.New("the request cannot be written")
	}
	q.Header.Set("Authorization", "Bearer "+a.key)
	q.Header.Set("Accept", "application/json")
	q.Header.Set("User-Agent", c.config.UserAgent)
	res, err := c.http.Do(q)
	if err != nil {
		return a, network(err)
	}
	defer func() { _ = res.Body.Close() }() // it was read, or is not wanted
	a.status, a.header = res.StatusCode, res.Header
	a.date, _ = http.ParseTime(res.Header.Get("Date"))
	if a.body, err = io.ReadAll(io.LimitReader(res.Body, largest+1)); err != nil {
		return a, network(err)
	}
	if len(a.body) > largest {
		return a, fmt.Errorf("%w: it is larger than %d MiB", provider.ErrAnswer, largest>>20)
	}
	if a.status != http.StatusOK {
		return a, newRefusal(a)
	}
	return a, nil
}

// errKey says that there is no key to send.
var errKey = errors.New("the API key cannot be used")

func (c *Client) key() (string, error) {
	key, err := c.config.Key()
	if err != nil {
		return "", fmt.Errorf("%w: %w", errKey, err)
	}
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%w: it is empty, or holds what is no part of a key\nhint: store it as the provider's console shows it", errKey)
	}
	return key, nil
}

// errNetwork is a request that brought no whole answer.
var errNetwork = errors.New("no answer")

// network keeps the cause, without the address that it repeats.
func network(err error) error {
	var where *url.Error
	if errors.As(err, &where) {
		err = where.Err
	}
	if errors.Is(err, context.DeadlineExceeded) { // of this try: the caller's own is told apart by ask
		return fmt.Errorf("%w within %s", errNetwork, askWithin)
	}
	return fmt.Errorf("%w: %w", errNetwork, err)
}

// errNotJSON is an answer that broke off, or is of somebody in between.
var errNotJSON = errors.New("it is not JSON")

// read reads an answer into a value.
func read(a answer, into any) error {
	if !utf8.Valid(a.body) {
		return fmt.Errorf("%w: it is not UTF-8", provider.ErrAnswer)
	}
	err := json.Unmarshal(a.body, into)
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		return fmt.Errorf("%w: %w at byte %d of %d", provider.ErrAnswer, errNotJSON, syntax.Offset, len(a.body))
	}
	return fmt.Errorf("%w: its shape is not the documented one", provider.ErrAnswer)
}

// passes reports trouble that may be over at the next try.
func passes(err error) bool {
	var refused *refusal
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &refused):
		switch refused.status {
		case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	case errors.As(err, &certificate):
		return false
	}
	return errors.Is(err, errNetwork) || errors.Is(err, errNotJSON)
}

// refusal is an answer that is not 200.
type refusal struct {
	status  int
	code    string
	message string // what it says, shortened, without the key
	said    string // all that it says, in lower case
}

// newRefusal reads what WorkOS says: an object, or for a limit the bare text "Ratelimited".
func newRefusal(a answer) *refusal {
	var object struct {
		Message lenient[string] `json:"message"`
		Error   lenient[string] `json:"error"`
		Code    lenient[string] `json:"code"`
	}
	var bare string
	_ = json.Unmarshal(a.body, &object)
	_ = json.Unmarshal(a.body, &bare)
	message := cmp.Or(object.Message.value, object.Error.value, bare)
	return &refusal{
		status: a.status, code: object.Code.value, message: shorten(strings.ReplaceAll(message, a.key, "[redacted]")),
		said: strings.ToLower(string(a.body[:min(len(a.body), 64<<10)])),
	}
}

func shorten(s string) string {
	const most = 200
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

func (r *refusal) Error() string {
	if r.message == "" {
		return fmt.Sprintf("it answers %d", r.status)
	}
	return fmt.Sprintf("it answers %d, %q", r.status, r.message)
}

// unreadable is the error of an answer that is not what was asked for.
func (r request) unreadable(err error) error {
	return fmt.Errorf("workos: %s: %w\nhint: is the API's address right, and no proxy in between that answers for it?", r.what, err)
}

// cutShort is the error of an answer that does not come to an end.
func (r request) cutShort(why string) error {
	return fmt.Errorf("workos: %s: %w: %s\nhint: nothing is taken for missing; ask again later, and the provider if it stays so", r.what, provider.ErrCutShort, why)
}

// explain makes of what went wrong the error that the caller sees.
func (c *Client) explain(r request, err error, wait time.Duration) error {
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		return c.explainRefusal(r, refused, wait)
	case errors.Is(err, errKey):
		return fmt.Errorf("workos: %s: %w", r.what, err)
	case errors.Is(err, provider.ErrAnswer):
		return r.unreadable(err)
	}
	return fmt.Errorf("workos: %s: %w\nhint: can this machine reach %s? HTTPS_PROXY is heeded", r.what, err, c.base.Host)
}

func (c *Client) explainRefusal(r request, refused *refusal, wait time.Duration) error {
	switch {
	case refused.status == http.StatusUnauthorized || refused.status == http.StatusForbidden:
		if c.config.Refused != nil {
			c.config.Refused()
		}
		return fmt.Errorf("workos: %s: %w: %w\nhint: store the API key (sk_…) of the environment that has the directories; `rollcall doctor` tries it", r.what, provider.ErrUnauthorized, refused)
	case refused.status == http.StatusTooManyRequests && wait > longestWait:
		return fmt.Errorf("workos: %s: %w: %w, and asks to wait %s\nhint: what else uses this key? The limit is one for all", r.what, provider.ErrThrottled, refused, wait)
	case refused.status == http.StatusTooManyRequests:
		return fmt.Errorf("workos: %s: %w: %w, %d times\nhint: what else uses this key? The limit is one for all", r.what, provider.ErrThrottled, refused, tries)
	case refused.status/100 == 3:
		return fmt.Errorf("workos: %s: %w: %w, a redirect, which the key does not follow\nhint: is the API's address right?", r.what, provider.ErrAnswer, refused)
	case refused.status/100 == 5:
		return fmt.Errorf("workos: %s: %w\nhint: the provider has trouble of its own; its status page may say which", r.what, refused)
	}
	return fmt.Errorf("workos: %s: %w", r.what, refused)
}
