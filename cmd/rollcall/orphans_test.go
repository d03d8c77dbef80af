package main

import (
	"bytes"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/rollcallhq/rollcall/internal/app"
	"github.com/rollcallhq/rollcall/internal/config"
	"github.com/rollcallhq/rollcall/internal/inventory"
)

func TestOrphansPrintsWhatItFindsAndFailsOnIt(t *testing.T) {
	t.Parallel()
	s, err := app.OpenStore(t.Context(), config.Config{Environment: "test", Store: config.Store{Backend: config.BackendSQLite, Path: filepath.Join(t.TempDir(), "r.db")}}, "1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "app.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	checker := inventory.Checker{Store: s, Now: time.Now, Application: inventory.Application{DB: db, Kind: "sqlite", Accounts: `SELECT 1 AS id`}}
	var out, talk bytes.Buffer
	c := &cli{out: &out, talk: &talk}
	if err := c.findOrphans(t.Context(), checker); err != nil || !strings.HasPrefix(talk.String(), "1 accounts and 0 memberships compared; 1 accounts in tenants without a directory") {
		t.Errorf("findOrphans() = %v, and says %s", err, talk.String())
	}

	checker.Application.Memberships = `SELECT 1 AS user_id, 'g' AS group_id`
	out.Reset()
	talk.Reset()
	c.format = "json"
	if err := c.findOrphans(t.Context(), checker); !errors.Is(err, errCheck) || err.Error() != "not all is well: 0 found, 1 not judged" {
		t.Errorf("findOrphans() of what cannot be judged = %v", err)
	}
	for text, want := range map[string]string{
		out.String():  `"unknown": [` + "\n    {\n" + `      "reason": "a membership is of a group that no directory has said anything of",` + "\n" + `      "count": 1`,
		talk.String(): "\nnot judged: 1 because a membership is of a group that",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("findOrphans() prints\n%swant\n%s", text, want)
		}
	}
}

func TestOrphansAsCSVAreSafeAndTellWhatWasNotJudged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := &cli{out: &out, format: "csv"}
	found := inventoryJSON{
		Findings: []disagreementJSON{{
			Kind: "orphan", Tenant: "acme", AppID: "7", Email: "=cmd|'/c calc'!A0@example.com", Source: "workos", Directory: "directory_1", Account: "id-7",
			Group: "group_1", GroupName: "@Engineering, Berlin", Protected: true, Detail: "no active account is linked with it",
		}},
		Unknown: []unknownJSON{{Reason: "its directory is observed", Count: 3}},
	}
	if err := c.printInventory(found, table{}); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"found,tenant,app_id,email,source,directory,account,group,group_name,protected,detail",
		`orphan,acme,7,'=cmd|'/c calc'!A0@example.com,workos,directory_1,id-7,group_1,"'@Engineering, Berlin",true,no active account is linked with it`,
		"not judged,,,,,,,,,,3 because its directory is observed", "",
	}, "\r\n")
	if out.String() != want {
		t.Errorf("orphans -o csv prints\n%q, want\n%q", out.String(), want)
	}
}

func TestAnExemptionEndsAtATimeToCome(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{"90d": now.AddDate(0, 0, 90), "1h": now.Add(time.Hour), "2026-03-10T12:00:01Z": now.Add(time.Second)} {
		if got, err := parseUntil(text, now); err != nil || !got.Equal(want) {
			t.Errorf("parseUntil(%q) = %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0s", "-1h", "2026-03-10T12:00:00Z", "for ever"} {
		if got, err := parseUntil(text, now); err == nil {
			t.Errorf("parseUntil(%q) = %s, want an error", text, got)
		}
	}
}
