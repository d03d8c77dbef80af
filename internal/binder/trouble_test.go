package binder_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/rollcallhq/rollcall/internal/binder"
)

// raises is a function of the application's that fails with a code of one's choice, as one that asks another database may, and a
// trigger that does so when the transaction ends.
const raises = `
	CREATE FUNCTION raises(code text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
		IF length(code) = 5 THEN RAISE EXCEPTION 'another database is in trouble' USING ERRCODE = code; END IF;
		RETURN code; END $$;
	CREATE TABLE late (code text NOT NULL);
	CREATE FUNCTION raises_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM raises(NEW.code); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raises_late()`

// codes are what a database in trouble answers.
var codes = []string{"08001", "08006", "53100", "53200", "57P01", "58030", "XX000", "XX001", "25006"}

func TestAStatementThatRaisesADatabasesTroubleFailsAlone(t *testing.T) {
	t.Parallel()
	for what, statement := range map[string]string{
		"as it runs": `SELECT raises(@name)`,
		"at the end": `INSERT INTO late (code) VALUES (@name)`,
	} {
		for place, own := range map[string]bool{"one database": true, "two databases": false} {
			t.Run(what+", in "+place, func(t *testing.T) {
				t.Parallel()
				r := onPostgres(t, own)
				r.exec(raises)
				r.start(func(c *binder.Config) {
					c.RetryFirst, c.RetryLongest = time.Hour, time.Hour
					c.Bindings = append(c.Bindings, binder.Binding{Name: "far", On: kinds("account.updated"), Statements: []string{statement}})
				})
				for _, code := range codes {
					r.fold(joins("of-"+code), joins("beside-"+code))
				}
				r.settle()
				for _, code := range codes {
					r.fold(joins("of-"+code, named(code)), joins("beside-"+code, named("fine")))
				}
				r.until("a failure of each, and all others", func() bool { return r.waiting() == len(codes) && len(r.failures()) == len(codes) })
				if got := strings.Join(r.failures(), ", "); strings.Count(got, "another database is in trouble") != len(codes) {
					t.Errorf("the failures are %s, want what each raised", got)
				}
				for _, code := range codes {
					r.fold(leaves("of-" + code))
				}
				r.settle()
				r.shows(`SELECT external_id FROM app_users WHERE disabled = 0 AND external_id LIKE 'of-%'`)
			})
		}
	}
}

func TestALookupThatRaisesADatabasesTroubleFailsAlone(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	r.exec(raises)
	r.start(func(c *binder.Config) {
		c.Link = &binder.Link{SQL: `SELECT id FROM app_users WHERE external_id = raises(@idp_id)`}
	})
	r.exec(`INSERT INTO app_users (external_id) VALUES ('fine')`) // the function is run for rows alone
	for _, code := range codes {
		r.fold(joins(code))
	}
	r.fold(joins("ada"))
	r.until("all but those that cannot be looked up", func() bool { return r.waiting() == len(codes) })
	r.came("ada", "account.activated bound 2")
	r.exec(`CREATE OR REPLACE FUNCTION raises(code text) RETURNS text LANGUAGE sql AS $$ SELECT code $$`)
	r.settle()
}

func TestAProbeThatRaisesADatabasesTroubleKeepsNoOtherFromBeingAsked(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	r.exec(raises)
	r.start(func(c *binder.Config) {
		c.Probes = []binder.Probe{{Name: "far", SQL: `SELECT raises('08006') WHERE CAST(@app_id AS text) <> ''`}, {Name: "sessions", SQL: `SELECT id FROM app_sessions WHERE user_id = @app_id`}}
	})
	r.fold(joins("ada"))
	r.settle()
	r.fold(leaves("ada"))
	r.until("verdicts", func() bool { return len(read(t, r.truth, `SELECT 1 FROM `+r.schema+`probes`)) == 2 })
	if got := strings.Join(read(t, r.truth, `SELECT probe, verdict FROM `+r.schema+`probes ORDER BY probe`), ", "); got != "far unknown, sessions clean" {
		t.Errorf("the verdicts are %s, want that one probe could not say, and the other", got)
	}
}

func TestADatabaseThatTakesNoWritesFailsNoChange(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, false)
	var said sayings
	_, stop := r.start(func(c *binder.Config) { c.Log = zerolog.New(&said) })
	r.fold(joins("ada"))
	r.settle()
	stop()
	name := r.rows(`SELECT current_database()`)[0]
	r.exec(`ALTER DATABASE ` + name + ` SET default_transaction_read_only = on`)
	r.onlyNew()
	r.start(func(c *binder.Config) {
		c.Log = zerolog.New(&said)
		c.Bindings = []binder.Binding{effect("effects")}
	})
	r.fold(joins("bob"), leaves("ada"))
	r.until("an alarm", func() bool { return said.have("no change takes effect at this time") })
	if got := r.failures(); len(got) > 0 {
		t.Errorf("these changes failed: %q, want none: it is not their fault", got)
	}
	r.exec(`BEGIN READ WRITE; ALTER DATABASE ` + name + ` RESET default_transaction_read_only; COMMIT`)
	r.settle() // no connection that was made before is used again
	r.shows(`SELECT kind FROM effects ORDER BY kind`, "account.activated", "account.deactivated")
}

// Somebody holds the rows in which it is noted what took effect.
func TestWhoSettlesAtTheSameTimeFailsNoChange(t *testing.T) {
	t.Parallel()
	r := onPostgres(t, true)
	b := r.binder(func(c *binder.Config) {
		c.Link, c.LockTimeout, c.Bindings = nil, 50*time.Millisecond, []binder.Binding{effect("effects")}
	})
	r.fold(joins("ada"), joins("bob"))
	tx, err := r.truth.BeginTx(t.Context(), nil)
	if err == nil {
		_, err = tx.ExecContext(t.Context(), `SELECT seq FROM rollcall.changes WHERE account_key = 'ada' FOR UPDATE`)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.drained(b)
	if got := r.failures(); len(got) != 0 || r.waiting() == 0 {
		t.Errorf("%d changes wait, and these failed: %q, want one that waits, at least, and none that failed", r.waiting(), got)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	r.drained(b)
	r.shows(`SELECT account, count(*) FROM effects GROUP BY account ORDER BY account`, "ada 1", "bob 1")
}

// onlyNew closes the connections with the application's database that are not in use.
func (r *rig) onlyNew() {
	r.app.SQL.SetMaxIdleConns(0)
	r.app.SQL.SetMaxIdleConns(2)
}

// sayings is a log. mu guards all.
type sayings struct {
	mu  sync.Mutex
	all strings.Builder
}

func (s *sayings) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(p)
}

func (s *sayings) have(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.all.String(), text)
}
