package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Redacted returns the whole configuration as YAML that Load reads, with secrets struck out.
func (c Config) Redacted() string { return c.yaml(nil) }

// Redacted returns the configuration as YAML, each line that is no default with a comment that says where it is from.
func (l Loaded) Redacted() string { return l.Config.yaml(l.From) }

func (c Config) yaml(from map[string]string) string {
	text, err := yaml.Marshal(node(reflect.ValueOf(c), "", from))
	if err != nil {
		return fmt.Sprintf("# %v\n", err)
	}
	return string(text)
}

// node renders a struct with its keys in their order.
func node(v reflect.Value, prefix string, from map[string]string) *yaml.Node {
	out := &yaml.Node{Kind: yaml.MappingNode}
	add := func(key string, value *yaml.Node) {
		out.Content = append(out.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, value)
	}
	if v.Kind() == reflect.Map {
		for _, name := range sortedNames(v.Interface().(map[string]Source)) {
			add(name, node(v.MapIndex(reflect.ValueOf(name)), prefix+name+".", from))
		}
		return out
	}
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("koanf")
		switch field := v.Field(i); field.Kind() {
		case reflect.Struct, reflect.Map:
			add(key, node(field, prefix+key+".", from))
		default:
			value := scalar(field)
			value.LineComment = from[prefix+key]
			add(key, value)
		}
	}
	return out
}

func scalar(v reflect.Value) *yaml.Node {
	out := &yaml.Node{}
	value := v.Interface()
	switch x := value.(type) {
	case time.Duration:
		value = formatDuration(x)
	case fmt.Stringer: // a size; a reference or a value that may be a secret, as it may be shown
		value = x.String()
	case []string:
		out.Style = yaml.FlowStyle
		if x == nil {
			value = []string{}
		}
	}
	style := out.Style
	_ = out.Encode(value) // texts, numbers and lists of texts cannot fail
	out.Style |= style
	return out
}

// Reference returns the manual of all keys as Markdown: docs/CONFIG.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	section := ""
	for _, l := range leaves() {
		if s := sectionOf(l.key); s != section {
			section = s
			fmt.Fprintf(&b, "\n## %s\n\n| key | default | what it says |\n| --- | --- | --- |\n", section)
		}
		initial := ""
		if l.initial != "" {
			initial = "`" + l.initial + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", l.key, initial, l.doc)
	}
	return b.String()
}

const referenceHead = `# Configuration

Made by ` + "`rollcall config reference`" + `; a test keeps it in step.

Defaults, then the YAML file that ` + "`--config`" + ` (or ` + "`ROLLCALL_CONFIG`" + `) names, then environment variables, then ` + "`--set KEY=VALUE`" + `:
the later one counts. The variable of ` + "`queue.redis.addrs`" + ` is ` + "`ROLLCALL_QUEUE_REDIS_ADDRS`" + `; lists are written with commas. Sources are set
in the file or by ` + "`--set sources.NAME.KEY=VALUE`" + `. An unknown key of the file or of ` + "`--set`" + ` is an error; an unknown ` + "`ROLLCALL_`" + `
variable is only warned of, because platforms set some of their own. Durations are written ` + "`30s`, `24h`, `95d`" + `, sizes ` + "`64KiB`, `1MiB`" + `.

A secret itself does not belong in a configuration. Where a key takes a reference, it is one of

- ` + "`vault:PATH#FIELD`" + `: a field of a secret in the KV version 2 engine at ` + "`secrets.vault.mount`" + `; ` + "`vault:MOUNT//PATH#FIELD`" + ` in another one
- ` + "`file:/PATH`" + `: the content of a file, without its last line break
- ` + "`env:NAME`" + `: an environment variable
`

func sectionOf(key string) string {
	first, _, nested := strings.Cut(key, ".")
	if !nested {
		return "The process"
	}
	return first
}
