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

// ports tries every address that a process would listen on. What a process that runs already has is as it should be.
func (d *doctor) ports(ctx context.Context) (string, error) {
	var free, held []string
	for _, one := range listens(d.config) {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", one[1])
		switch {
		case err == nil:
			free = append(free, one[1])
			_ = l.Close()
		case errors.Is(err, syscall.EADDRINUSE) && d.running(ctx):
			held = append(held, one[1])
		default:
			return "", fmt.Errorf("%s: %w%s", one[0], err, handlers.ListenHint(err))
		}
	}
	var parts []string
	if len(free) > 0 {
		parts = append(parts, strings.Join(free, ", ")+" free")
	}
	if len(held) > 0 {
		parts = append(parts, strings.Join(held, ", ")+" held by the rollcall that runs")
	}
	return strings.Join(parts, "; "), nil
}

// running reports whether a process answers at ops.address as Rollcall does.
func (d *doctor) running(ctx context.Context) bool {
	url, err := OpsURL(d.config.Ops.Address)
	if err != nil {
		return false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/livez", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, 16))
	return err == nil && res.StatusCode == http.StatusOK && string(text) == "ok\n"
}
