package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestASpreadsheetRunsNothingOfWhatADirectorySays(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct{ cell, want string }{
		"a formula":                   {`=HYPERLINK("http://evil")`, `'=HYPERLINK("http://evil")`},
		"a sum":                       {"+1+1", "'+1+1"},
		"a difference":                {"-2+3", "'-2+3"},
		"a function of old":           {"@SUM(A1)", "'@SUM(A1)"},
		"a full-width equals":         {"＝1+1", "'＝1+1"},
		"a full-width plus":           {"＋1", "'＋1"},
		"a full-width minus":          {"－1", "'－1"},
		"a full-width at":             {"＠SUM(A1)", "'＠SUM(A1)"},
		"behind a tab":                {"\t=1+1", "'�=1+1"},
		"a tab alone":                 {"\tAda", "'�Ada"},
		"behind a carriage return":    {"\r=1+1", "'�=1+1"},
		"a carriage return alone":     {"\rAda", "'�Ada"},
		"behind a line's end":         {"\n=1+1", "'\n=1+1"},
		"behind spaces":               {"  =1+1", "'  =1+1"},
		"behind a mark of byte order": {"\ufeff=1+1", "'\ufeff=1+1"},
		"what steers a terminal":      {"\x1b[2JAda", "�[2JAda"},
		"an address":                  {"ada@example.com", "ada@example.com"},
		"an id with a minus inside":   {"6b1d-4e", "6b1d-4e"},
		"nothing":                     {"", ""},
		"a comma and quotes":          {`Lovelace, "Ada"`, `Lovelace, "Ada"`},
		"two lines":                   {"one\r\ntwo", "one\ntwo"},
		"an apostrophe":               {"'tis", "'tis"},
		"a name not in Latin letters": {"山田 太郎", "山田 太郎"},
	} {
		var out bytes.Buffer
		if err := writeCSV(&out, []string{"id", "name"}, [][]string{{"1", c.cell}}); err != nil {
			t.Errorf("%s: writeCSV() = %v", what, err)
		}
		got, err := csv.NewReader(&out).ReadAll()
		if diff := cmp.Diff([][]string{{"id", "name"}, {"1", c.want}}, got); err != nil || diff != "" {
			t.Errorf("%s: writeCSV(%q) is read as (-want +got), %v:\n%s", what, c.cell, err, diff)
		}
	}
}

func TestCSVIsQuotedAsTheRFCHasIt(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := writeCSV(&out, []string{"a", "b"}, [][]string{{`say "hi"`, "x,y"}, {"one\ntwo", "=1"}}); err != nil {
		t.Fatal(err)
	}
	want := "a,b\r\n\"say \"\"hi\"\"\",\"x,y\"\r\n\"one\r\ntwo\",'=1\r\n"
	if out.String() != want {
		t.Errorf("writeCSV() = %q, want %q", out.String(), want)
	}
	if err := writeCSV(full{}, []string{strings.Repeat("a", 8192)}, nil); !errors.Is(err, errFull) {
		t.Errorf("writeCSV() to a full disk = %v, want its error", err)
	}
	if err := writeCSV(full{}, []string{"a"}, nil); !errors.Is(err, errFull) {
		t.Errorf("writeCSV() of one line to a full disk = %v, want its error", err)
	}
}

var errFull = errors.New("no space left")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }
