package postgres_test

import (
	"database/sql"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite" // what is compiled is for it, too

	"github.com/rollcallhq/rollcall/internal/store/postgres"
	"github.com/rollcallhq/rollcall/internal/testenv"
)

var known = []string{"account", "app_id", "attributes", "email", "idp_id", "organization_id", "tenant"}

// compiled are statements with what becomes of them. PostgreSQL can prepare all of them.
var compiled = map[string]struct {
	sql, text string
	names     []string
}{
	"no parameter":             {"SELECT 1", "SELECT 1", nil},
	"one":                      {"SELECT @email::text", "SELECT $1::text", []string{"email"}},
	"one at the end":           {"SELECT 'a' = @email", "SELECT 'a' = $1", []string{"email"}},
	"twice":                    {"SELECT @email::text, @idp_id::text, @email", "SELECT $1::text, $2::text, $1", []string{"email", "idp_id"}},
	"behind an operator":       {"SELECT 'a'=@email,(@idp_id)||'b'||@tenant", "SELECT 'a'=$1,($2)||'b'||$3", []string{"email", "idp_id", "tenant"}},
	"an operator with an @":    {"SELECT '[1]'::jsonb @> @attributes::jsonb, '[1]'::jsonb <@ '[1,2]'", "SELECT '[1]'::jsonb @> $1::jsonb, '[1]'::jsonb <@ '[1,2]'", []string{"attributes"}},
	"an operator with two":     {"SELECT to_tsvector('a') @@ to_tsquery(@tenant), @ -1, @1.5", "SELECT to_tsvector('a') @@ to_tsquery($1), @ -1, @1.5", []string{"tenant"}},
	"questions":                {`SELECT '{"a": 1}'::jsonb ? @email, '{}'::jsonb ?| ARRAY['a']`, `SELECT '{"a": 1}'::jsonb ? $1, '{}'::jsonb ?| ARRAY['a']`, []string{"email"}},
	"in a text":                {"SELECT 'a @email', @email::text", "SELECT 'a @email', $1::text", []string{"email"}},
	"behind a doubled quote":   {"SELECT 'it''s @email', @email::text, ''", "SELECT 'it''s @email', $1::text, ''", []string{"email"}},
	"a backslash":              {`SELECT 'a\', @email::text, '\'`, `SELECT 'a\', $1::text, '\'`, []string{"email"}},
	"an E text":                {`SELECT E'a\' @email', @email::text, e'\\', E'a''\''`, `SELECT E'a\' @email', $1::text, e'\\', E'a''\''`, []string{"email"}},
	"a text behind a type":     {`SELECT DATE'2026-01-02', @email::text, TIME'10:00'`, `SELECT DATE'2026-01-02', $1::text, TIME'10:00'`, []string{"email"}},
	"a Unicode text":           {`SELECT U&'\0041 @email', @email::text`, `SELECT U&'\0041 @email', $1::text`, []string{"email"}},
	"a quoted name":            {`SELECT 1 AS "a""@email", @email::text`, `SELECT 1 AS "a""@email", $1::text`, []string{"email"}},
	"a comment":                {"SELECT 1 -- it's @email\n, @email::text -- 'x' $1", "SELECT 1 -- it's @email\n, $1::text -- 'x' $1", []string{"email"}},
	"a comment in a comment":   {"SELECT /* a /* b */ @tenant ' */ @email::text", "SELECT /* a /* b */ @tenant ' */ $1::text", []string{"email"}},
	"a dollar quote":           {"SELECT $$it's @email $1$$, @email::text", "SELECT $$it's @email $1$$, $1::text", []string{"email"}},
	"a dollar quote, named":    {"SELECT $q$a $$ @email $qq$ -- $q$, @email::text", "SELECT $q$a $$ @email $qq$ -- $q$, $1::text", []string{"email"}},
	"a dollar quote and more":  {"SELECT $é_1$ '@tenant ' $é_1$ || @email || $$1$$", "SELECT $é_1$ '@tenant ' $é_1$ || $1 || $$1$$", []string{"email"}},
	"a name with dollars":      {"SELECT 1 AS a$b, @email::text AS a$1, 'x' AS c$b", "SELECT 1 AS a$b, $1::text AS a$1, 'x' AS c$b", []string{"email"}},
	"letters beyond ASCII":     {"SELECT 1 AS größe, @email::text AS \"\ufffd\"", "SELECT 1 AS größe, $1::text AS \"\ufffd\"", []string{"email"}},
	"a text on two lines":      {"SELECT 'a'\n  ' @tenant', @email::text", "SELECT 'a'\n  ' @tenant', $1::text", []string{"email"}},
	"an address in a text":     {"SELECT 'a@email.example', '@nobody', @email::text", "SELECT 'a@email.example', '@nobody', $1::text", []string{"email"}},
	"a price in a text":        {"SELECT '$1 $2', E'\\'$1', @email::text", "SELECT '$1 $2', E'\\'$1', $1::text", []string{"email"}},
	"many, in order":           {"SELECT @tenant::text, @email::text, @account::text, @app_id::text, @idp_id::text", "SELECT $1::text, $2::text, $3::text, $4::text, $5::text", []string{"tenant", "email", "account", "app_id", "idp_id"}},
	"a statement with a block": {"DO $$ BEGIN PERFORM '@nobody'; END $$", "DO $$ BEGIN PERFORM '@nobody'; END $$", nil},
}

func TestNamedParametersAreNumberedWhereTheyAreParameters(t *testing.T) {
	t.Parallel()
	for name, c := range compiled {
		text, names, err := postgres.Compile(c.sql, known)
		if err != nil || text != c.text {
			t.Errorf("%s: Compile(%q) = %q, %v\nwant %q", name, c.sql, text, err, c.text)
		}
		if diff := cmp.Diff(c.names, names); diff != "" {
			t.Errorf("%s: Compile(%q), names (-want +got):\n%s", name, c.sql, diff)
		}
	}
}

func TestPostgreSQLSeesTheParametersThatWereFound(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), testenv.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	for name, c := range compiled {
		text, names, err := postgres.Compile(c.sql, known)
		if err != nil {
			t.Fatalf("%s: Compile(%q): %v", name, c.sql, err)
		}
		prepared, err := conn.PgConn().Prepare(t.Context(), "", text, nil)
		if err != nil {
			t.Errorf("%s: PostgreSQL does not take %q: %v", name, text, err)
			continue
		}
		if len(prepared.ParamOIDs) != len(names) {
			t.Errorf("%s: PostgreSQL sees %d parameters in %q, Compile %q", name, len(prepared.ParamOIDs), text, names)
		}
	}
}

func TestSQLiteTakesTheNumbersToo(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	text, names, err := postgres.Compile("SELECT @tenant || @email || @tenant || coalesce(@idp_id, '-') -- @account", known)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{"tenant": "t", "email": "e", "idp_id": nil}
	var args []any
	for _, name := range names {
		args = append(args, values[name])
	}
	var got string
	if err := db.QueryRowContext(t.Context(), text, args...).Scan(&got); err != nil || got != "tet-" {
		t.Errorf("%s with %q = %q, %v, want tet-", text, names, got, err)
	}
}

func TestWhatCouldBeReadInTwoWaysIsRefused(t *testing.T) {
	t.Parallel()
	const all = "; there are @account, @app_id, @attributes, @email, @idp_id, @organization_id, @tenant"
	for name, c := range map[string]struct{ sql, want string }{
		"misspelt":                        {"SELECT @emial", "@emial is no parameter; did you mean @email?" + all},
		"a letter too few":                {"SELECT @organisation_id", "@organisation_id is no parameter; did you mean @organization_id?" + all},
		"capitals":                        {"SELECT @Email", "@Email is no parameter; did you mean @email?" + all},
		"unlike any":                      {"SELECT @password", "@password is no parameter" + all},
		"unknown behind a known one":      {"SELECT @email, @secret", "@secret is no parameter" + all},
		"longer than a known one":         {"SELECT @email_address", "@email_address is no parameter" + all},
		"a column behind an operator":     {"SELECT a @@email", "@@email can be read in two ways; write a space before the parameter, or behind the operator"},
		"a column in a containment":       {"SELECT a <@email", "<@email can be read in two ways"},
		"a name's end":                    {"SELECT id@email", "d@email can be read in two ways"},
		"a name's end beyond ASCII":       {"SELECT é@email", "é@email can be read in two ways"},
		"a number's end":                  {"SELECT 1@email", "1@email can be read in two ways"},
		"a dollar before":                 {"SELECT $@email", "$@email can be read in two ways"},
		"another parameter before":        {"SELECT @email@tenant", "l@tenant can be read in two ways"},
		"a letter behind":                 {"SELECT @emailé", "@emailé is no parameter; write a space behind @email"},
		"a dollar behind":                 {"SELECT @email$$a$$", "@email$ is no parameter; write a space behind @email"},
		"a number":                        {"SELECT $1, @email", "$1 is no parameter; parameters have names, such as @email"},
		"a number alone":                  {"SELECT $12", "$12 is no parameter"},
		"a number behind a text":          {"SELECT '$1',$2", "$2 is no parameter"},
		"a number behind a quote":         {"SELECT $q$ $1 $q$, $3", "$3 is no parameter"},
		"a number first":                  {"$1", "$1 is no parameter"},
		"quoted":                          {"SELECT 1 WHERE a = '@email'", "'@email' is a text and no parameter; leave the quotes out"},
		"an E text on two lines":          {"SELECT E'a'\n '\\'' || @email || '", "an E'…' text goes on in quotes on another line; write it as one"},
		"an E text on lines with comment": {"SELECT e'\\'' -- more\n '\\'' || @email || '", "an E'…' text goes on in quotes on another line"},
		"bytes that are no text":          {"SELECT '\xff', @email", "the statement is not UTF-8"},
	} {
		text, names, err := postgres.Compile(c.sql, known)
		if err == nil || !strings.Contains(err.Error(), c.want) || text != "" || names != nil {
			t.Errorf("%s: Compile(%q) = %q, %q, %v\nwant the error %q", name, c.sql, text, names, err, c.want)
		}
	}
}

func FuzzCompilingLosesNoText(f *testing.F) {
	for _, c := range compiled {
		f.Add(c.sql)
	}
	for _, seed := range []string{"@", "$", "@_", "'", `"@email`, "/* @email", "-- @email", "$a$@email", `E'\`, "$1", "@email @", "\ufffd@email", "\xff@email", "@email$1", "a\x00@email"} {
		f.Add(seed)
	}
	place := regexp.MustCompile(`\$[0-9]+`)
	f.Fuzz(func(t *testing.T, statement string) {
		text, names, err := postgres.Compile(statement, known)
		if err != nil {
			return
		}
		if !utf8.ValidString(text) {
			t.Fatalf("Compile(%q) = %q", statement, text)
		}
		// Names in the places of their numbers make the statement again, whichever of the numbers were its own.
		pattern, at := "^", 0
		for _, p := range place.FindAllStringIndex(text, -1) {
			own := regexp.QuoteMeta(text[p[0]:p[1]])
			pattern += regexp.QuoteMeta(text[at:p[0]])
			if n, _ := strconv.Atoi(text[p[0]+1 : p[1]]); n >= 1 && n <= len(names) {
				own += "|@" + names[n-1]
			}
			pattern, at = pattern+"(?:"+own+")", p[1]
		}
		if !regexp.MustCompile(pattern + regexp.QuoteMeta(text[at:]) + "$").MatchString(statement) {
			t.Fatalf("Compile(%q) = %q, %q: text is lost", statement, text, names)
		}
	})
}
