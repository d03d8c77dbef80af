package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/test/rig"
)

func TestSamplePayloadsGiveTheAccountsAndGrantsThatTheRulesSay(t *testing.T) {
	t.Parallel()
	rig.Fixtures(t, func(t *testing.T, set ...string) *rig.Site { return rig.New(t, rig.Options{Set: set}) })
}

// vectors are signatures made elsewhere.
type vectors struct {
	Vectors []struct {
		Name   string `json:"name"`
		Secret string `json:"secret"`
		Body   string `json:"body"`
		Header string `json:"header"`
		Valid  bool   `json:"valid"`
	} `json:"vectors"`
}

// Each secret is a source of one process. The signatures are old, so that none of them gets in: a valid one is refused for
// its age alone, and counted so; the others are refused before anybody looks at their age.
func TestSignaturesMadeElsewhereAreToldApart(t *testing.T) {
	t.Parallel()
	root, err := rig.Root()
	if err != nil {
		t.Fatal(err)
	}
	files := []string{filepath.Join(root, "verify", "testdata", "signature-vectors.json")}
	if dir := os.Getenv("ROLLCALL_FIXTURES"); dir != "" {
		files = append(files, filepath.Join(dir, "workos", "signature-vectors.json"))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var all vectors
		if err := json.Unmarshal(text, &all); err != nil || len(all.Vectors) == 0 {
			t.Fatalf("%s holds %d vectors, %v", file, len(all.Vectors), err)
		}
		site, sources := siteOf(t, all)
		p := site.Serve(t, "receiver")
		p.AwaitReady(t)
		for _, v := range all.Vectors {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.At("/webhooks/"+sources[v.Secret]), strings.NewReader(v.Body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("WorkOS-Signature", v.Header)
			stale := fmt.Sprintf("rollcall_signature_failures_total{reason=\"stale\",source=%q}", sources[v.Secret])
			before := p.Metric(t, stale)
			if a := site.Do(t, request); a.Status != http.StatusUnauthorized {
				t.Errorf("%s: answered %d %s, want 401", v.Name, a.Status, a.Body)
			}
			if valid := p.Metric(t, stale) > before; valid != v.Valid {
				t.Errorf("%s: found valid %t, want %t", v.Name, valid, v.Valid)
			}
		}
	}
}

// siteOf returns a site with a source for each secret, and the sources' names.
func siteOf(t *testing.T, all vectors) (site *rig.Site, sources map[string]string) {
	t.Helper()
	var set, env []string
	sources = map[string]string{}
	for _, v := range all.Vectors {
		if sources[v.Secret] != "" {
			continue
		}
		n := len(sources)
		source, variable := fmt.Sprintf("vectors-%d", n), fmt.Sprintf("VECTORS_%d", n)
		sources[v.Secret] = source
		env = append(env, variable+"="+v.Secret)
		set = append(set, "sources."+source+".provider=workos", "sources."+source+".secret=env:"+variable)
	}
	return rig.New(t, rig.Options{Set: set, Env: env}), sources
}
