package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/test/rig"
)

// With an empty key everybody can sign, so a process that has such a secret does not go on, and says why.
func TestASecretThatCouldNotProtectRefusesToStart(t *testing.T) {
	t.Parallel()
	site := rig.New(t, rig.Options{Env: []string{"EMPTY_SECRET=", "BLANK_SECRET=   ", "SHORT_SECRET=canary-too-shor"}})
	file := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return "file:" + path
	}
	cases := map[string]struct{ reference, want string }{
		"an empty file":      {file("secret", ""), "the secret is empty"},
		"a file of one line": {file("secret", "\n"), "the secret is empty"},
		"a short file":       {file("secret", "canary-too-shor\n"), "the secret is too short"},
		"an empty variable":  {"env:EMPTY_SECRET", "the secret is empty"},
		"a blank variable":   {"env:BLANK_SECRET", "the secret is empty"},
		"a short variable":   {"env:SHORT_SECRET", "the secret is too short"},
		"the secret itself":  {"canary-too-shor-but-it-is-the-secret", "sources.workos.secret"},
		"no secret":          {"", "sources.workos.secret"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := site.Start(t, "receiver,worker", "sources.workos.secret="+c.reference)
			code, said := p.Ended(t), p.Log().String()
			if code == 0 || !strings.Contains(said, c.want) || !strings.Contains(said, "\nhint: ") {
				t.Errorf("exit code %d, and it said\n%s\nwant another code than 0, %q, and a hint", code, said, c.want)
			}
			if !strings.Contains(said, "workos") {
				t.Errorf("it said\n%s\nwhich does not name the source", said)
			}
			if strings.Contains(said, "canary") {
				t.Errorf("it said\n%s\nwhich holds the secret", said)
			}
		})
	}
}
