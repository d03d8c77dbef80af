package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/rollcallhq/rollcall/handlers"
	"github.com/rollcallhq/rollcall/internal/config"
)

// OpsURL is where the operators' listener of a process on this machine answers, without a path.
func OpsURL(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("ops.address %q is no address to ask", address)
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

// listens are the addresses of a process, each with its key.
func listens(c config.Config) (all [][2]string) {
	for _, one := range [][2]string{{"public.address", c.Public.Address}, {"ops.address", c.Ops.Address}, {"admin.address", c.Admin.Address}} {
		if one[1] != "" && (one[0] != "public.address" || c.Has(config.Receiver)) {
			all = append(all, one)
		}
	}
	return all
}

// Process is what answered at an operators' listener.
type Process struct {
	URL                 string // that was asked
	Status              int
	Text                string
	Environment, Digest string // of its configuration; empty when it does not say: it is an older rollcall, or none
}

// AskProcess asks an operators' listener. Its error says why nothing answers.
func AskProcess(ctx context.Context, url string) (p Process, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return p, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	return Process{
		URL: url, Status: res.StatusCode, Text: string(text),
		Environment: res.Header.Get(handlers.EnvironmentHeader), Digest: res.Header.Get(handlers.ConfigHeader),
	}, err
}

// Other says that the process is another rollcall than that of a configuration; empty when it may be that one. A configuration that was
// edited since has another digest and the same environment, and makes no other process.
func (p Process) Other(c config.Config) string {
	if p.Environment == "" || p.Environment == c.Environment {
		return ""
	}
	return fmt.Sprintf("another rollcall (environment %s)", p.Environment)
}

// ports tries every address that a process would listen on. What a process that runs already has is as it should be.
func (d *doctor) ports(ctx context.Context) (string, error) {
	var free, held []string
	var holder Process
	for _, one := range listens(d.config) {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", one[1])
		if err == nil {
			free = append(free, one[1])
			_ = l.Close()
			continue
		}
		var runs bool
		if errors.Is(err, syscall.EADDRINUSE) {
			holder, runs = d.running(ctx)
		}
		if other := holder.Other(d.config); runs && other != "" {
			return "", fmt.Errorf("%s: %s is held by %s\nhint: stop that one, or set other addresses", one[0], one[1], other)
		}
		if !runs {
			return "", fmt.Errorf("%s: %w%s", one[0], err, handlers.ListenHint(err))
		}
		held = append(held, one[1])
	}
	var parts []string
	if len(free) > 0 {
		parts = append(parts, strings.Join(free, ", ")+" free")
	}
	if len(held) > 0 {
		parts = append(parts, strings.Join(held, ", ")+" held by the rollcall that runs"+holder.edited(d.config))
	}
	return strings.Join(parts, "; "), nil
}

// edited says that a process was started with another configuration.
func (p Process) edited(c config.Config) string {
	if p.Digest == "" || p.Digest == c.Digest() {
		return ""
	}
	return fmt.Sprintf(", with another configuration (digest %s; this one is %s)", p.Digest, c.Digest())
}

// running returns the process that answers at ops.address as Rollcall does.
func (d *doctor) running(ctx context.Context) (Process, bool) {
	url, err := OpsURL(d.config.Ops.Address)
	if err != nil {
		return Process{}, false
	}
	p, err := AskProcess(ctx, url+"/livez")
	return p, err == nil && p.Status == http.StatusOK && p.Text == "ok\n"
}
