package layout

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/rollcallhq/rollcall"

// The files are read, not listed by the go command: what a command of ours read, the test cache would not notice.
func TestTheProjectFollowsItsPlan(t *testing.T) {
	t.Parallel()
	for _, complaint := range check(t, os.DirFS("../..")) {
		t.Error(complaint)
	}
}

func TestWhatStraysFromThePlanIsFound(t *testing.T) {
	t.Parallel()
	const queueDoc = "// Package queue queues.\npackage queue\n"
	cases := map[string]struct {
		file, source, want string
	}{
		"an import that goes up":           {"queue/a.go", queueDoc + `import _ "github.com/rollcallhq/rollcall/internal/store"`, "queue may not import internal/store"},
		"a database opened beside app":     {"cmd/rollcall/a.go", "// Command rollcall is.\npackage main\n" + `import _ "github.com/rollcallhq/rollcall/internal/store/sqlite"`, "cmd/rollcall may not import internal/store/sqlite"},
		"a package that has no line":       {"util/a.go", "// Package util is.\npackage util\n", "package util has no line in rooms"},
		"a library in another's room":      {"queue/a.go", queueDoc + `import _ "github.com/labstack/echo/v4/middleware"`, "queue may not import github.com/labstack/echo/v4/middleware"},
		"a library that nobody decided on": {"queue/a.go", queueDoc + `import _ "github.com/pkg/errors"`, "github.com/pkg/errors has no line in libraries"},
		"such a library in a test":         {"queue/a_test.go", "package queue\n" + `import _ "github.com/pkg/errors"`, "github.com/pkg/errors has no line in libraries"},
		"a log in a pure package":          {"verify/a.go", "// Package verify is.\npackage verify\n" + `import _ "github.com/rs/zerolog"`, "verify may not import github.com/rs/zerolog"},
		"a file in a pure package":         {"verify/a.go", "// Package verify is.\npackage verify\n" + `import _ "os"`, "verify may not import os"},
		"a clock in a pure package":        {"verify/a.go", "// Package verify is.\npackage verify\nimport \"time\"\nvar now = time.Now()", "verify may not call time.Now"},
		"test code in the binary":          {"queue/a.go", queueDoc + `import _ "testing"`, "queue may not import testing"},
		"a test server in the binary":      {"queue/a.go", queueDoc + `import _ "github.com/rollcallhq/rollcall/internal/testenv"`, "queue may not import internal/testenv"},
		"a package without a comment":      {"queue/a.go", "package queue\n", "no file of queue says in a comment what the package is for"},
		"a comment that starts elsewhere":  {"queue/a.go", "// It queues.\npackage queue\n", "no file of queue says in a comment what the package is for"},
		"a sleep":                          {"queue/a.go", queueDoc + "import \"time\"\nfunc f() { time.Sleep(1) }", "time.Sleep"},
		"a test that skips":                {"queue/a_test.go", "package queue\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Skipf(`no`) }", "skips"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := fstest.MapFS{c.file: {Data: []byte(c.source)}}
			if path.Dir(c.file) == "queue" && strings.HasSuffix(c.file, "_test.go") {
				tree["queue/queue.go"] = &fstest.MapFile{Data: []byte(queueDoc)}
			}
			complaints := check(t, tree)
			if len(complaints) != 1 || !strings.Contains(complaints[0], c.want) {
				t.Errorf("check gives %q, want one complaint with %q", complaints, c.want)
			}
		})
	}
}

// file is one Go file of the tree.
type file struct {
	path, dir string
	syntax    *ast.File
}

// isTest reports whether the file is compiled into tests only.
func (f file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") || forTests(f.dir) }

// forTests reports whether a package is there for tests alone.
func forTests(dir string) bool {
	return strings.HasSuffix(dir, "test") || dir == "internal/testenv" || strings.HasPrefix(dir, "test/")
}

// check returns what in a tree strays from the plan, a line each.
func check(t *testing.T, tree fs.FS) []string {
	t.Helper()
	var complaints []string
	documented := map[string]bool{}
	fset := token.NewFileSet()
	for _, f := range files(t, fset, tree) {
		complain := func(at token.Pos, format string, args ...any) {
			complaints = append(complaints, fmt.Sprintf("%s:%d: %s", f.path, fset.Position(at).Line, fmt.Sprintf(format, args...)))
		}
		documented[f.dir] = documented[f.dir] || isDocumented(f)
		checkImports(f, complain)
		checkCalls(f, complain)
	}
	for _, dir := range slices.Sorted(maps.Keys(documented)) {
		if _, ok := lookup(rooms, dir); !ok {
			complaints = append(complaints, fmt.Sprintf("package %s has no line in rooms: what may it import, and what is it for?", dir))
		}
		if !documented[dir] {
			complaints = append(complaints, fmt.Sprintf("no file of %s says in a comment what the package is for", dir))
		}
	}
	return complaints
}

// files parses every Go file of the module. Folders with a go.mod of their own are other modules.
func files(t *testing.T, fset *token.FileSet, tree fs.FS) []file {
	t.Helper()
	var found []file
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return skip(tree, name)
		case path.Ext(name) != ".go":
			return nil
		}
		source, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		syntax, err := parser.ParseFile(fset, name, source, parser.ParseComments)
		if err != nil {
			return err
		}
		found = append(found, file{path: name, dir: path.Dir(name), syntax: syntax})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatal("no Go file found")
	}
	return found
}

func skip(tree fs.FS, dir string) error {
	base := path.Base(dir)
	if dir != "." && (strings.HasPrefix(base, ".") || base == "testdata" || dir == "bin") {
		return fs.SkipDir
	}
	if _, err := fs.Stat(tree, path.Join(dir, "go.mod")); err == nil && dir != "." {
		return fs.SkipDir
	}
	return nil
}

// isDocumented reports whether the file says what its package is for, in the form that Go's documents want.
func isDocumented(f file) bool {
	if f.syntax.Doc == nil {
		return false
	}
	name := strings.TrimSuffix(f.syntax.Name.Name, "_test")
	want := "Package " + name + " "
	if name == "main" {
		want = "Command " + path.Base(f.dir) + " "
	}
	return strings.HasPrefix(f.syntax.Doc.Text(), want)
}

func checkImports(f file, complain func(token.Pos, string, ...any)) {
	for _, spec := range f.syntax.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			complain(spec.Pos(), "import %s: %v", spec.Path.Value, err)
			continue
		}
		if why := forbidden(f, name); why != "" {
			complain(spec.Pos(), "%s", why)
		}
	}
}

// forbidden says why a file may not import a package, or nothing.
func forbidden(f file, name string) string {
	refusal := fmt.Sprintf("%s may not import %s", f.dir, strings.TrimPrefix(name, module+"/"))
	if ours, ok := strings.CutPrefix(name, module+"/"); ok {
		if strings.HasSuffix(f.path, "_test.go") || mayImport(f.dir, ours) {
			return ""
		}
		return refusal
	}
	prefix, known := library(name)
	outside := strings.Contains(strings.Split(name, "/")[0], ".")
	switch {
	case outside && !known:
		return name + " has no line in libraries: a new library is a decision, and belongs in docs/decisions"
	case known && !mayUse(f, libraries[prefix]), !f.isTest() && tooWorldly(f.dir, name):
		return refusal
	}
	return ""
}

func mayImport(dir, ours string) bool {
	allowed, ok := lookup(rooms, dir)
	if !ok {
		return true // that it has no line is said once
	}
	return slices.ContainsFunc(allowed, func(entry string) bool {
		folder, all := strings.CutSuffix(entry, "/*")
		return entry == anything || entry == ours || all && path.Dir(ours) == folder
	})
}

func mayUse(f file, allowed []string) bool {
	_, isPure := pure[f.dir]
	return f.isTest() || slices.Contains(allowed, f.dir) || slices.Contains(allowed, anywhere) && !isPure
}

func tooWorldly(dir, name string) bool {
	within := func(prefix string) bool { return isWithin(name, prefix) }
	return slices.ContainsFunc(pure[dir], within) && !slices.ContainsFunc(pureMay[dir], within)
}

// library returns the line in libraries that is for a package: the longest that it is within.
func library(name string) (string, bool) {
	longest := ""
	for prefix := range libraries {
		if isWithin(name, prefix) && len(prefix) > len(longest) {
			longest = prefix
		}
	}
	return longest, longest != ""
}

func isWithin(name, prefix string) bool { return name == prefix || strings.HasPrefix(name, prefix+"/") }

// lookup returns the line that is for a package: its own, or that of its folder.
func lookup(rows map[string][]string, dir string) ([]string, bool) {
	if row, ok := rows[dir]; ok {
		return row, true
	}
	row, ok := rows[path.Dir(dir)+"/*"]
	return row, ok
}

// checkCalls finds the calls that the project does without: a wait for the clock in place of the thing, a test that skips and
// is green, a clock in a package that is handed the time.
func checkCalls(f file, complain func(token.Pos, string, ...any)) {
	_, isPure := pure[f.dir]
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		call, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		of, ok := call.X.(*ast.Ident)
		if !ok {
			return true
		}
		name := of.Name + "." + call.Sel.Name
		switch {
		case f.isTest() && slices.Contains([]string{"t", "b", "f", "tb"}, of.Name) && strings.HasPrefix(call.Sel.Name, "Skip"):
			complain(call.Pos(), "%s skips: a test runs or fails", name)
		case !f.isTest() && name == "time.Sleep":
			complain(call.Pos(), "time.Sleep waits for the clock and for nobody: select on the context and a timer")
		case !f.isTest() && isPure && slices.Contains([]string{"time.Now", "time.Since", "time.Until"}, name):
			complain(call.Pos(), "%s may not call %s: it is handed the time", f.dir, name)
		}
		return true
	})
}
