package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcallhq/rollcall/handlers"
	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/provider/workos"
	"github.com/rollcallhq/rollcall/internal/spelling"
	"github.com/rollcallhq/rollcall/secrets"
	"github.com/rollcallhq/rollcall/verify"
)

// sendFlags are what `rollcall send` is told.
type sendFlags struct {
	url, source, secret, scheme, ca, at string
	insecure                            bool
	timeout                             time.Duration
}

// sentJSON is what became of a delivery.
type sentJSON struct {
	Event    string  `json:"event,omitempty"`
	Status   int     `json:"status"`
	Delivery string  `json:"delivery,omitempty"` // the id under which the receiver's log has it
	Seconds  float64 `json:"seconds"`
	Answer   string  `json:"answer,omitempty"`
}

func (c *cli) send() *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:   "send SAMPLE|FILE|-",
		Short: "Sign an event and post it: the operator's curl",
		Long: `Signs a built-in sample, a file, or standard input, as the provider does, and posts it.
A sample gets a new id and the present time; a file is sent byte for byte. Samples:
  ` + strings.Join(workos.Samples(), "\n  ") + `

With --config the secret, the scheme and the URL are those of --source; --secret,
--scheme and --url say otherwise. Exits 0 when the answer is a 2xx.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, id, err := c.payload(args[0])
			if err != nil {
				return err
			}
			return c.post(cmd.Context(), f, body, id)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.source, "source", "workos", "the `source` that it is for")
	flags.StringVar(&f.url, "url", "", "where to post to, a `URL`; default https://localhost:PORT/webhooks/SOURCE")
	flags.StringVar(&f.secret, "secret", "", "`reference` to the signing secret: file:/PATH, env:NAME or vault:PATH#FIELD")
	flags.StringVar(&f.scheme, "scheme", "", "`how` to sign: workos, standard-webhooks, svix or generic")
	flags.StringVar(&f.ca, "ca", "", "PEM `file` of the certificate to trust")
	flags.BoolVar(&f.insecure, "insecure", false, "trust any certificate; only for a receiver on this machine")
	flags.StringVar(&f.at, "at", "", "sign as of this RFC 3339 `time`, to see a stale delivery refused")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for the answer")
	return c.outputFlag(cmd)
}

// payload returns the bytes to send, and the event's id where it is known.
func (c *cli) payload(what string) (body []byte, id string, err error) {
	switch {
	case what == "-":
		body, err = io.ReadAll(c.in)
	case slices.Contains(workos.Samples(), what):
		return workos.Sample(what, time.Now())
	default:
		body, err = os.ReadFile(what)
	}
	if errors.Is(err, os.ErrNotExist) && !strings.ContainsRune(what, '/') && !strings.HasSuffix(what, ".json") {
		return nil, "", noSample(what)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the event: %w\nhint: it is a file, or - for standard input, or a sample: %s", err, strings.Join(workos.Samples(), ", "))
	}
	var event struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(body, &event) // what is no JSON is sent all the same: that is a test, too
	return body, event.ID, nil
}

// noSample is the error of a name that is neither a file nor a sample.
func noSample(name string) error {
	hint := "there is " + strings.Join(workos.Samples(), ", ")
	if near := spelling.Nearest(name, workos.Samples()); near != "" {
		hint = "did you mean " + near + "?"
	}
	return fmt.Errorf("%w: %s is no sample, and no file\nhint: %s", errUsage, name, hint)
}

func (c *cli) post(ctx context.Context, f sendFlags, body []byte, id string) error {
	f, source, conf, err := c.resolve(f)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: --url: %w\nhint: it is written https://HOST:PORT/webhooks/SOURCE", errUsage, err)
	}
	req.Header.Set("Content-Type", "application/json")
	at, err := f.signedAt()
	if err != nil {
		return err
	}
	if err := sign(ctx, cmp.Or(at, time.Now()), source, conf, req.Header, body); err != nil {
		return err
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	begun := time.Now()
	res, err := client.Do(req)
	if err != nil {
		return unreachable(f.url, err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
	out := sentJSON{
		Event: id, Status: res.StatusCode, Delivery: res.Header.Get(handlers.DeliveryHeader), Seconds: time.Since(begun).Seconds(), Answer: string(answer),
	}
	return c.printSent(out, at)
}

func (c *cli) printSent(out sentJSON, at time.Time) error {
	t := table{head: []string{"STATUS", "EVENT", "DELIVERY", "TOOK"}}
	t.add(fmt.Sprint(out.Status), out.Event, out.Delivery, time.Duration(out.Seconds*1e9).Round(100*time.Microsecond).String())
	if err := c.print(out, t); err != nil {
		return err
	}
	if out.Status/100 != 2 {
		return refused(out, at)
	}
	return nil
}

// resolve fills in from the configuration what the flags leave open.
func (c *cli) resolve(f sendFlags) (sendFlags, config.Source, config.Config, error) {
	l, err := c.loadFor(true)
	if err != nil {
		return f, config.Source{}, l.Config, err
	}
	source, known := l.Sources[f.source]
	if f.secret == "" && !known && len(l.Sources) > 0 {
		return f, source, l.Config, fmt.Errorf("%w: no source is called %q; there is %s\nhint: name one of them, or --secret", errUsage, f.source, strings.Join(slices.Sorted(maps.Keys(l.Sources)), ", "))
	}
	if err := secrets.Ref(f.secret).Validate(); f.secret != "" && err != nil {
		return f, source, l.Config, fmt.Errorf("%w: --secret: %w", errUsage, err)
	}
	if f.secret != "" {
		source.Secret = secrets.Ref(f.secret)
	}
	if f.scheme != "" {
		source.Scheme = f.scheme
	}
	if source.Provider == "" && source.Scheme == "" {
		source.Provider = "workos"
	}
	if source.Secret == "" {
		return f, source, l.Config, fmt.Errorf("%w: there is no signing secret\nhint: --secret file:/PATH, or --config with source %q", errUsage, f.source)
	}
	if f.url == "" {
		scheme, address := "https", l.Public.Address
		if l.Public.PlainHTTP {
			scheme = "http"
		}
		f.url = scheme + "://localhost:" + address[strings.LastIndexByte(address, ':')+1:] + "/webhooks/" + f.source
	}
	return f, source, l.Config, nil
}

// signedAt is what --at says; zero when it is left out.
func (f sendFlags) signedAt() (time.Time, error) {
	if f.at == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, f.at)
	if err != nil {
		return at, fmt.Errorf("%w: --at %q is not a time\nhint: it is written 2026-01-02T15:04:05Z", errUsage, f.at)
	}
	return at, nil
}

func sign(ctx context.Context, at time.Time, source config.Source, conf config.Config, h http.Header, body []byte) error {
	v, key, err := signer(ctx, source, conf)
	if err != nil {
		return err
	}
	return v.SignAll(h, body, []*verify.Key{key}, "msg_"+rand.Text(), at)
}

// signer is how a source signs, and the newest of its keys.
func signer(ctx context.Context, source config.Source, conf config.Config) (*verify.Verifier, *verify.Key, error) {
	v, err := app.NewVerifier(source)
	if err != nil {
		return nil, nil, err
	}
	snapshot, err := secrets.Fetch(ctx, app.SecretsConfig(conf), source.Secret)
	if err != nil {
		return nil, nil, err
	}
	newest := snapshot.Versions[0]
	key, err := v.NewKey(newest.ID, newest.Secret.Reveal())
	if err != nil {
		return nil, nil, fmt.Errorf("the signing secret: %w\nhint: store it as the sender's console shows it", err)
	}
	return v, key, nil
}

func (f sendFlags) client() (*http.Client, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: f.insecure} //nolint:gosec // asked for by --insecure
	if f.ca != "" {
		text, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w\nhint: it is the PEM file of the certificate, or of the authority that signed it", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--ca: %s holds no certificate\nhint: it is a PEM file, with BEGIN CERTIFICATE in it", f.ca)
		}
	}
	return &http.Client{
		Timeout:       f.timeout,
		Transport:     &http.Transport{TLSClientConfig: t, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}
