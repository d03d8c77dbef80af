package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"

	"github.com/rollcallhq/rollcall/internal/spelling"
)

// Options says where a configuration comes from besides its defaults.
type Options struct {
	File string   // YAML; empty is none
	Env  []string // NAME=value; ROLLCALL_STORE_DSN sets store.dsn
	Set  []string // KEY=value, as in store.dsn=…
	Tool bool     // for a command that looks at a part: whether a process could run so is not checked
}

// Loaded is a configuration that passed its checks, and what was noticed on the way.
type Loaded struct {
	Config
	Warnings []string          // what was passed over and may have been meant
	From     map[string]string // key → "file", "environment", "--set", or the key that it follows from; others are defaults
}

// EnvPrefix begins the names of environment variables that set keys.
const EnvPrefix = "ROLLCALL_"

// ErrInvalid marks every error of Load.
var ErrInvalid = errors.New("invalid configuration")

// Load reads and checks a configuration. All that is wrong with it is in one error, a line for each, and what to do.
func Load(o Options) (Loaded, error) {
	l := Loaded{From: map[string]string{}}
	var p problems
	fromEnv, warnings := environment(o.Env)
	l.Warnings = warnings
	fromFile, lines, err := file(o.File, &p)
	if err != nil {
		return l, err
	}
	for _, name := range referred(fromFile) {
		l.Warnings = slices.DeleteFunc(l.Warnings, func(w string) bool { return strings.Contains(w, " "+name+" ") })
	}
	k := koanf.New(".")
	if err := k.Load(structs.Provider(Default(), "koanf"), nil); err != nil {
		return l, fmt.Errorf("%w: defaults: %w", ErrInvalid, err)
	}
	for _, layer := range []struct {
		name   string
		values map[string]any
	}{{"file", fromFile}, {"environment", fromEnv}, {"--set", settings(o.Set, &p)}} {
		place := func(key string) string {
			switch line, numbered := lines[key]; {
			case layer.name != "file":
				return layer.name
			case !numbered:
				return o.File
			default:
				return fmt.Sprintf("%s:%d", o.File, line)
			}
		}
		_ = k.Load(confmap.Provider(p.known(place, layer.values), "."), nil) // values of known keys cannot fail
		for key := range layer.values {
			l.From[key] = layer.name
		}
	}
	if len(p) == 0 {
		p = decode(k, &l.Config)
	}
	if len(p) == 0 {
		l.Config.Application.fill()
		l.fillSources()
		p = l.Config.check(o.Tool)
	}
	return l, p.err()
}

// fillSources gives each source what it does not set, and what the application needs of it.
func (l *Loaded) fillSources() {
	for name, s := range l.Sources {
		s.OnDeleted = cmp.Or(s.OnDeleted, Hold)
		if s.API.Key != "" {
			l.fillReconcile(&s.Reconcile, "sources."+name+".reconcile.")
		}
		for _, attribute := range []string{"role", "roles"} {
			if l.Application.slugs() && !slices.Contains(s.Attributes, attribute) {
				s.Attributes = append(s.Attributes, attribute)
				l.From["sources."+name+".attributes"] = "application.roles"
			}
		}
		l.Sources[name] = s
	}
}

// fillReconcile gives what is not set, which a zero cannot tell, its value.
func (l *Loaded) fillReconcile(r *Reconcile, key string) {
	unset := func(name string) bool {
		_, set := l.From[key+name]
		return !set
	}
	if unset("enabled") {
		r.Enabled = true
	}
	if unset("every") {
		r.Every = reconcileEvery
	}
	for _, n := range []struct {
		name    string
		into    *int
		initial int
	}{{"accounts", &r.Guard.Accounts, guardAccounts}, {"percent", &r.Guard.Percent, guardPercent}, {"floor", &r.Guard.Floor, guardFloor}} {
		if unset("guard." + n.name) {
			*n.into = n.initial
		}
	}
}

// file reads the YAML file and returns its values, and the lines of their keys, by key.
func file(path string, p *problems) (values map[string]any, lines map[string]int, err error) {
	if path == "" {
		return nil, nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w\nhint: --config names a YAML file; `rollcall config print` shows one", ErrInvalid, err)
	}
	tree, root, err := parse(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w\nhint: `rollcall config print` shows a whole file", ErrInvalid, path, err)
	}
	values, lines = map[string]any{}, map[string]int{}
	flatten(tree, "", values, p)
	number(&root, "", lines)
	return values, lines, nil
}

// number writes the lines of a document's keys, as far as they are not an alias's.
func number(n *yaml.Node, prefix string, lines map[string]int) {
	if n.Kind == yaml.DocumentNode {
		number(n.Content[0], prefix, lines)
	}
	if n.Kind == yaml.SequenceNode {
		for i, item := range n.Content {
			number(item, fmt.Sprintf("%s[%d].", strings.TrimSuffix(prefix, "."), i), lines)
		}
	}
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := prefix + n.Content[i].Value
		lines[key] = n.Content[i].Line
		number(n.Content[i+1], key+".", lines)
	}
}

// parse reads the text of a file, which is one YAML document: what came after it would be passed over.
func parse(text []byte) (tree map[string]any, root yaml.Node, err error) {
	documents := yaml.NewDecoder(bytes.NewReader(text))
	if err := documents.Decode(&root); errors.Is(err, io.EOF) {
		return nil, root, nil
	} else if err != nil {
		return nil, root, err
	}
	if err := root.Decode(&tree); err != nil {
		return nil, root, err
	}
	if err := documents.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, root, errors.New("it holds more than one YAML document; leave out the line ---")
	}
	return tree, root, nil
}

// flatten writes the values of a tree by their keys, those of a list's sections with their place in it. A section or
// value that is left empty is not set.
func flatten(tree map[string]any, prefix string, values map[string]any, p *problems) {
	for name, value := range tree {
		key := prefix + name
		if strings.ContainsAny(name, ".[") {
			p.add(true, key, "a key of a file is written as sections, one below the other, without dots and brackets")
			continue
		}
		if _, isList := lists[key]; isList && value != nil {
			flattenItems(value, key, values, p)
			continue
		}
		switch x := value.(type) {
		case nil:
			p.add(prefix == "sources.", key, "is empty; a source has a provider and a secret")
		case map[string]any:
			p.add(prefix == "sources." && len(x) == 0, key, "is empty; a source has a provider and a secret")
			flatten(x, key+".", values, p)
		case map[any]any:
			p.add(true, key, "has a key that is no text")
		default:
			values[key] = value
		}
	}
}

// flattenItems writes the values of a list of sections. An item says something, so that none is passed over.
func flattenItems(value any, list string, values map[string]any, p *problems) {
	items, isList := value.([]any)
	p.add(!isList, list, "is a list of sections; begin each of them with -")
	for i, item := range items {
		key := fmt.Sprintf("%s[%d]", list, i)
		section, _ := item.(map[string]any)
		before, wrong := len(values), len(*p)
		flatten(section, key+".", values, p)
		p.add(len(values) == before && len(*p) == wrong, key, "is no section; it has %s", strings.Join(below(list+"[]", keys()), ", "))
	}
}

// referred returns the variables that values of a file refer to, as env:NAME: they are no settings, and no mistakes either.
func referred(values map[string]any) (names []string) {
	for _, value := range values {
		text, _ := value.(string)
		if name, is := strings.CutPrefix(text, "env:"); is {
			names = append(names, name)
		}
	}
	return names
}

// environment takes the variables whose names are those of keys. Others with the prefix are passed over and reported,
// but for those that container platforms make of a service's name.
func environment(environ []string) (map[string]any, []string) {
	names := map[string]string{}
	for _, leaf := range leaves() {
		if leaf.alone() {
			names[EnvName(leaf.key)] = leaf.key
		}
	}
	values := map[string]any{}
	var warnings []string
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		switch key, known := names[name]; {
		case known:
			values[key] = value
		case !strings.HasPrefix(name, EnvPrefix), slices.Contains(ownVariables, name), platformVariable.MatchString(pair):
		default:
			warnings = append(warnings, fmt.Sprintf("environment variable %s is no setting and was passed over; sources are set in a file or by --set, lists of sections in a file", name))
		}
	}
	slices.Sort(warnings)
	return values, warnings
}

// ownVariables have the prefix and are not keys: the file's own, the tests', the compose file's.
var ownVariables = []string{EnvPrefix + "CONFIG", EnvPrefix + "FIXTURES", EnvPrefix + "PORT"}

// platformVariable is what Kubernetes and Docker's links set in every container for a service called rollcall, or
// rollcall-receiver. Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var platformVariable = regexp.MustCompile(`^` + EnvPrefix + `([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?|PORT=(tcp|udp|sctp):)(=|/|$)`)

// EnvName is the environment variable of a key: ROLLCALL_QUEUE_REDIS_ADDRS of queue.redis.addrs.
func EnvName(key string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func settings(set []string, p *problems) map[string]any {
	values := map[string]any{}
	for _, pair := range set {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			p.add(true, "--set", "%q is not KEY=VALUE", key)
			continue
		}
		list, _, _ := strings.Cut(key, "[")
		if _, isList := lists[list]; isList {
			p.add(true, "--set", "%s is a list of sections; set it in a file", list)
			continue
		}
		values[key] = value
	}
	return values
}

// leaf is a key that holds a value.
type leaf struct {
	key     string
	doc     string
	kind    reflect.Type
	initial string // the default as it is written; empty when there is none
	whole   bool   // of texts that may have commas in them
}

// alone reports a key that stands for itself, not for one of every source or section of a list.
func (l leaf) alone() bool {
	return !strings.HasPrefix(l.key, "sources.NAME.") && !strings.Contains(l.key, "[]")
}

// leaves returns all keys in the order of the structs; "sources.NAME." stands for every source, and "bindings[]." for
// every section of a list.
func leaves() []leaf { return walk(reflect.ValueOf(Default()), "") }

func walk(v reflect.Value, prefix string) (out []leaf) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key, value := prefix+field.Tag.Get("koanf"), v.Field(i)
		switch {
		case field.Type.Kind() == reflect.Map:
			out = append(out, walk(reflect.New(field.Type.Elem()).Elem(), key+".NAME.")...)
		case field.Type.Kind() == reflect.Struct:
			out = append(out, walk(value, key+".")...)
		case isList(field.Type):
			out = append(out, walk(reflect.New(field.Type.Elem()).Elem(), key+"[].")...)
		default:
			out = append(out, leaf{key, field.Tag.Get("doc"), field.Type, written(value), field.Tag.Get("whole") != ""})
		}
	}
	return out
}

func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}

// lists are the keys that hold a list of sections, with what the manual says of each.
var lists = listsOf(reflect.TypeFor[Config](), "")

func listsOf(t reflect.Type, prefix string) map[string]string {
	out := map[string]string{}
	for i := range t.NumField() {
		field := t.Field(i)
		key := prefix + field.Tag.Get("koanf")
		switch {
		case isList(field.Type):
			out[key] = field.Tag.Get("doc")
		case field.Type.Kind() == reflect.Struct:
			maps.Copy(out, listsOf(field.Type, key+"."))
		default: // no list is further down
		}
	}
	return out
}

// keys are those of leaves.
func keys() map[string]bool {
	out := map[string]bool{}
	for _, l := range leaves() {
		out[l.key] = true
	}
	return out
}

func written(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		if x == 0 {
			return ""
		}
		return formatDuration(x)
	case []string:
		return strings.Join(x, ", ")
	case bool:
		return fmt.Sprint(x)
	}
	if v.IsZero() {
		return ""
	}
	return fmt.Sprint(v.Interface())
}

// known returns the values whose keys somebody reads, and refuses the others, each with its place: a misspelt limit must
// not be the default in silence.
func (p *problems) known(place func(key string) string, values map[string]any) map[string]any {
	keys, known := keys(), map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if keys[generic(key)] {
			known[key] = values[key]
			continue
		}
		p.add(true, place(key), "no key is called %s%s", key, suggest(key, keys))
	}
	return known
}

// position is where in a list a section is.
var position = regexp.MustCompile(`\[[0-9]*\]`)

// generic replaces a source's name, and a place in a list.
func generic(key string) string {
	parts := strings.SplitN(key, ".", 3)
	if len(parts) == 3 && parts[0] == "sources" && parts[1] != "" {
		return "sources.NAME." + parts[2]
	}
	return position.ReplaceAllString(key, "[]")
}

// specific is a generic key with the source's name or the place of another key.
func specific(key, of string) string {
	if rest, ok := strings.CutPrefix(key, "sources.NAME."); ok {
		name, _, _ := strings.Cut(strings.TrimPrefix(of, "sources."), ".")
		return "sources." + name + "." + rest
	}
	return position.ReplaceAllString(key, position.FindString(of))
}

// suggest names known keys: those that are spelt nearly so; else those with the same last part, if there are few; else
// those of the section that the key would be in.
func suggest(key string, known map[string]bool) string {
	name := key
	key = generic(key)
	list, _, _ := strings.Cut(key, "[]") // the keys of another list are not meant
	near := spelling.Nearest(key, slices.DeleteFunc(slices.Sorted(maps.Keys(known)), func(k string) bool {
		other, _, inList := strings.Cut(k, "[]")
		return inList && list != key && other != list
	}))
	if near != "" {
		if key != name {
			near = specific(near, name)
		}
		return "; did you mean " + near + "?"
	}
	var same []string
	for k := range known {
		if strings.HasSuffix(k, "."+key[strings.LastIndexByte(key, '.')+1:]) {
			same = append(same, k)
		}
	}
	if slices.Sort(same); len(same) > 0 && len(same) <= 3 {
		return "; there is " + strings.Join(same, ", ")
	}
	for {
		if near := below(key, known); len(near) > 0 {
			return "; " + cmp.Or(key, "the configuration") + " has " + strings.Join(near, ", ")
		}
		key = key[:max(strings.LastIndexByte(key, '.'), 0)]
	}
}

// below returns the names of the keys and sections in a section; "" is the whole.
func below(section string, known map[string]bool) (names []string) {
	for k := range known {
		if section != "" {
			rest, inside := strings.CutPrefix(k, section+".")
			if !inside {
				continue
			}
			k = rest
		}
		name, _, _ := strings.Cut(k, ".")
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// decode fills the configuration. A value of the wrong form is a problem that names its key, and never the value, which
// may be a secret.
func decode(k *koanf.Koanf, into *Config) (p problems) {
	byKey, sections := map[string]leaf{}, sections{}
	for _, l := range leaves() {
		byKey[l.key] = l
	}
	for _, key := range k.Keys() {
		l, ok := byKey[generic(key)]
		if !ok {
			continue // "sources" when there are none
		}
		value, err := l.read(k.Get(key))
		if err != nil {
			p.add(true, key, "%s", err)
			continue
		}
		if !sections.add(key, value) {
			_ = k.Set(key, value) // a value of its own type cannot fail
		}
	}
	if len(p) > 0 {
		return p
	}
	for list, items := range sections {
		_ = k.Set(list, items)
	}
	err := k.UnmarshalWithConf("", into, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{Result: into, TagName: "koanf"}})
	p.add(err != nil, "configuration", "%v", err)
	return p
}

// read returns the value as the key's type. Text is read as environment variables and flags have to write it; other
// values are taken when they say the same thing. A number is no duration, because it would have no unit, and no text,
// because YAML reads 0123 as 83.
func (l leaf) read(value any) (any, error) {
	if reflect.TypeOf(value) == l.kind {
		return value, nil
	}
	text, isText := value.(string)
	number, isNumber := value.(int)
	switch {
	case l.kind == reflect.TypeFor[time.Duration]():
		if isText {
			return ParseDuration(text)
		}
		return time.Duration(0), wrongUnless(isNumber && number == 0, "it is not a duration such as 30s, 24h or 95d")
	case l.kind == reflect.TypeFor[Choice]():
		return readChoice(value)
	case l.kind == reflect.TypeFor[Bytes]():
		var b Bytes
		if isNumber {
			text = strconv.Itoa(number)
		}
		err := b.UnmarshalText([]byte(text))
		return b, err
	}
	switch l.kind.Kind() {
	case reflect.Slice:
		if l.whole || strings.Contains(l.key, "[]") {
			return texts(value)
		}
		return list(value)
	case reflect.Bool:
		on, err := strconv.ParseBool(text)
		return on, wrongUnless(err == nil, "it is not true or false")
	case reflect.Int, reflect.Int64:
		if isText {
			n, err := strconv.Atoi(text)
			return n, wrongUnless(err == nil, "it is not a whole number")
		}
		return number, wrongUnless(isNumber, "it is not a whole number")
	default:
		return text, wrongUnless(isText, "it is not a text; put it between quotes")
	}
}

// list reads a list of texts, or one text with commas, as environment variables and flags have to write it.
func list(value any) (out []string, err error) {
	if text, isText := value.(string); isText {
		for part := range strings.SplitSeq(text, ",") {
			out = append(out, strings.TrimSpace(part))
		}
	} else if out, err = texts(value); err != nil {
		return nil, err
	}
	if out = slices.DeleteFunc(out, func(text string) bool { return text == "" }); len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// texts reads a list of texts, or the one text of such a list, which may have commas in it.
func texts(value any) (out []string, err error) {
	parts, isList := value.([]any)
	if text, isText := value.(string); isText {
		parts, isList = []any{text}, true
	}
	for _, part := range parts {
		text, isText := part.(string)
		isList = isList && isText
		out = append(out, text)
	}
	return out, wrongUnless(isList, "it is not a list of texts")
}

// sections gathers what sections of lists say: by list, place and key.
type sections map[string][]map[string]any

// add takes a value, unless its key is not that of a section in a list.
func (s sections) add(key string, value any) bool {
	list, rest, _ := strings.Cut(key, "[")
	if _, isList := lists[list]; !isList {
		return false
	}
	place, name, _ := strings.Cut(rest, "].")
	i, _ := strconv.Atoi(place) // flattenItems wrote it
	for len(s[list]) <= i {
		s[list] = append(s[list], map[string]any{})
	}
	s[list][i][name] = value
	return true
}

func wrongUnless(right bool, what string) error {
	if right {
		return nil
	}
	return errors.New(what)
}
