package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/rollcallhq/rollcall/internal/spelling"
)

// Compile rewrites the named parameters of a statement, @name, to $1, $2, …, and returns the name of each: names[i] is
// that of $i+1. The rest of the text stays as it is; what stands in quotes, dollar quotes and comments is no parameter, and
// neither are operators such as @> and @@. The result suits SQLite, too.
//
// A name that is not known is an error that lists those that are. What could be read in two ways is an error that says how
// to write it.
func Compile(sql string, known []string) (text string, names []string, err error) {
	if !utf8.ValidString(sql) {
		return "", nil, errors.New("the statement is not UTF-8")
	}
	if continued.MatchString(sql) {
		return "", nil, errors.New("an E'…' text goes on in quotes on another line; write it as one")
	}
	if err := numbered(sql); err != nil {
		return "", nil, err
	}
	text, found, err := rewrite(sql)
	if err != nil {
		return "", nil, err
	}
	for _, p := range found {
		if err := p.check(sql, known); err != nil {
			return "", nil, err
		}
		if p.ordinal > len(names) { // they are numbered as they come
			names = append(names, p.name)
		}
	}
	return text, names, nil
}

// continued is where PostgreSQL goes on reading backslashes as escapes, and pgx does not.
// Source: https://www.postgresql.org/docs/current/sql-syntax-lexical.html, 4.1.2.1
var continued = regexp.MustCompile(`(?:^|\W)[eE]'(?:[^'\\]|\\.|\\\n|'')*'(?:\s|--[^\r\n]*)*[\r\n]\s*'`)

// parameter is a place where a name stands behind an @.
type parameter struct {
	name    string
	ordinal int // 0 when it is within quotes or a comment
	start   int // of its @
	end     int // after its name
}

// rewrite lets pgx find the parameters, and looks for them in what it wrote: all else must be as it was.
func rewrite(sql string) (text string, found []parameter, err error) {
	text, _, err = pgx.NamedArgs(nil).RewriteQuery(context.Background(), nil, sql, nil)
	if err != nil {
		return "", nil, err
	}
	rest, at := text, 0
	for _, place := range named.FindAllStringIndex(sql, -1) {
		p := parameter{name: sql[place[0]+1 : place[1]], start: place[0], end: place[1]}
		before, lead := sql[at:p.start], p.start-at
		if len(rest) <= lead || rest[:lead] != before {
			return "", nil, errMisread
		}
		if at, rest = p.start, rest[lead:]; rest[0] != '$' {
			found = append(found, p)
			continue
		}
		digits := len(rest[1:]) - len(strings.TrimLeft(rest[1:], "0123456789"))
		p.ordinal, err = strconv.Atoi(rest[1 : 1+digits])
		if err != nil {
			return "", nil, errMisread
		}
		at, rest = p.end, rest[1+digits:]
		found = append(found, p)
	}
	if rest != sql[at:] {
		return "", nil, errMisread
	}
	return text, found, nil
}

var (
	named      = regexp.MustCompile(`@[A-Za-z_][A-Za-z0-9_]*`)
	errMisread = errors.New("the statement cannot be read; its quotes or comments may have no end")
)

// check refuses a parameter that nobody knows, and one that PostgreSQL could read as part of something else.
func (p parameter) check(sql string, known []string) error {
	if p.ordinal == 0 {
		if slices.Contains(known, p.name) && strings.HasSuffix(sql[:p.start], "'") && strings.HasPrefix(sql[p.end:], "'") {
			return fmt.Errorf("'@%s' is a text and no parameter; leave the quotes out", p.name)
		}
		return nil
	}
	if !slices.Contains(known, p.name) {
		return fmt.Errorf("@%s is no parameter%s; there are @%s", p.name, meant(p.name, known), strings.Join(known, ", @"))
	}
	before, _ := utf8.DecodeLastRuneInString(sql[:p.start])
	after, _ := utf8.DecodeRuneInString(sql[p.end:])
	switch {
	case p.start > 0 && (ofName(before) || strings.ContainsRune("@<?&^~!#%", before)):
		return fmt.Errorf("%c@%s can be read in two ways; write a space before the parameter, or behind the operator", before, p.name)
	case p.end < len(sql) && ofName(after):
		return fmt.Errorf("@%s%c is no parameter; write a space behind @%s", p.name, after, p.name)
	}
	return nil
}

// ofName reports whether PostgreSQL takes the letter as one of a name, after its first.
func ofName(r rune) bool {
	return r == '_' || r == '$' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= utf8.RuneSelf
}

// numbered refuses $1 and its like outside of quotes and comments: they would get the values of our own. Whether they are
// there is what pgx makes of a text with names in their places.
func numbered(sql string) error {
	instead := ordinal.ReplaceAllString(sql, "${1}@p")
	if instead == sql {
		return nil
	}
	_, found, err := rewrite(instead)
	if err != nil {
		return err
	}
	for _, p := range found {
		if p.ordinal > 0 && sql[p.start] == '$' {
			return fmt.Errorf("%s is no parameter; parameters have names, such as @email", sql[p.start:p.end])
		}
	}
	return nil
}

// ordinal is $1, where it is not the end of a name or of a dollar quote. The name in its place is as long.
var ordinal = regexp.MustCompile(`(^|[^\pL\pN_$])\$[0-9]`)

// meant is the known name that is nearest to this one, as part of a message.
func meant(name string, known []string) string {
	near := spelling.Nearest(strings.ToLower(name), known)
	if near == "" {
		return ""
	}
	return "; did you mean @" + near + "?"
}
