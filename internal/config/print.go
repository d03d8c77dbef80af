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
		switch field := v.Field(i); {
		case field.Kind() == reflect.Struct || field.Kind() == reflect.Map:
			add(key, node(field, prefix+key+".", from))
		case isList(field.Type()):
			add(key, sequence(field, prefix+key, from))
		case strings.HasSuffix(prefix, "].") && field.IsZero():
			// what a section of a list leaves out is not of its kind
		default:
			value := scalar(field)
			add(key, value)
			commented := value
			if value.Kind == yaml.SequenceNode && value.Style&yaml.FlowStyle == 0 {
				commented = out.Content[len(out.Content)-2] // a list of lines has its comment behind its key
			}
			commented.LineComment = from[prefix+key]
		}
	}
	return out
}

// sequence renders a list of sections.
func sequence(v reflect.Value, prefix string, from map[string]string) *yaml.Node {
	out := &yaml.Node{Kind: yaml.SequenceNode}
	if v.Len() == 0 {
		out.Style = yaml.FlowStyle
	}
	for i := range v.Len() {
		out.Content = append(out.Content, node(v.Index(i), fmt.Sprintf("%s[%d].", prefix, i), from))
	}
	return out
}

// longText does not stand in a line with others.
const longText = 40

func scalar(v reflect.Value) *yaml.Node {
	out := &yaml.Node{}
	value := v.Interface()
	switch x := value.(type) {
	case time.Duration:
		value = formatDuration(x)
	case fmt.Stringer: // a size; a reference or a value that may be a secret, as it may be shown
		value = x.String()
	case string:
		return textNode(x)
	case []string:
		out.Kind, out.Style = yaml.SequenceNode, yaml.FlowStyle
		for _, text := range x {
			if len(text) > longText || strings.Contains(text, "\n") {
				out.Style = 0
			}
			out.Content = append(out.Content, textNode(text))
		}
		return out
	}
	_ = out.Encode(value) // texts and numbers cannot fail
	return out
}

// textNode renders a text, and one of several lines as lines. One that begins with a space would lose it there.
func textNode(text string) *yaml.Node {
	out := &yaml.Node{}
	switch {
	case !strings.Contains(text, "\n"):
		_ = out.Encode(text) // a text cannot fail
	case strings.ContainsAny(text[:1], " \t\r\n"):
		out.SetString(text)
		out.Style = yaml.DoubleQuotedStyle
	default:
		out.SetString(text)
	}
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
			b.WriteString(heading(s))
		}
		initial := ""
		if l.initial != "" {
			initial = "`" + l.initial + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", l.key, initial, l.doc)
	}
	return b.String()
}

// heading begins the table of a section, or of the sections of a list.
func heading(section string) string {
	const table = "| key | default | what it says |\n| --- | --- | --- |\n"
	if about, isList := lists[section]; isList {
		return fmt.Sprintf("\n### %s\n\nA list of sections. %s\n\n%s", section, about, table)
	}
	if section == "application" {
		return fmt.Sprintf("\n## %s\n\n%s\n%s", section, applicationHead, table)
	}
	return fmt.Sprintf("\n## %s\n\n%s", section, table)
}

const applicationHead = `Only workers read it. Each statement is one, with parameters such as ` + "`@email`" + ` in place of values. A whole one:

` + "```yaml" + `
application:
  dsn: vault:app/database#dsn
  tenant:
    sql: SELECT id FROM organizations WHERE workos_organization_id = @organization_id
  link:
    sql: SELECT id FROM users WHERE tenant_id = @tenant AND directory_user_id = @idp_id
  bindings:
    - on: account.activated
      name: create-user
      sql: |
        INSERT INTO users (tenant_id, directory_user_id, email, name) VALUES (@tenant, @idp_id, @email, @name)
        ON CONFLICT (tenant_id, directory_user_id) DO UPDATE SET email = excluded.email, disabled_at = NULL
    - on: account.deactivated
      name: disable-user
      sql:
        - UPDATE users SET disabled_at = now() WHERE id = @app_id
        - DELETE FROM sessions WHERE user_id = @app_id
    - on: [grant.*, role.*]
      post: https://app.internal/hooks/access
      secret: vault:app/hooks#secret
  roles:
    - role: admin
      groups: [Administrators]
  probes:
    - name: sessions
      sql: SELECT id FROM sessions WHERE user_id = @app_id
  inventory:
    accounts: SELECT id, tenant_id AS tenant, email FROM users WHERE disabled_at IS NULL
  rehearsal:
    sign_in: INSERT INTO sessions (user_id, token) VALUES (@app_id, gen_random_uuid())
` + "```" + `
`

const referenceHead = `# Configuration

Made by ` + "`rollcall config reference`" + `; a test keeps it in step.

Defaults, then the YAML file that ` + "`--config`" + ` (or ` + "`ROLLCALL_CONFIG`" + `) names, then environment variables, then ` + "`--set KEY=VALUE`" + `:
the later one counts. The variable of ` + "`queue.redis.addrs`" + ` is ` + "`ROLLCALL_QUEUE_REDIS_ADDRS`" + `; lists are written with commas. Sources are set
in the file or by ` + "`--set sources.NAME.KEY=VALUE`" + `, and lists of sections, whose keys are written with ` + "`[]`" + ` here, in the file alone; where
such a section takes a list of texts, it takes one text, too, commas and all. An unknown key of the file or of ` + "`--set`" + ` is an error; an unknown ` + "`ROLLCALL_`" + `
variable is only warned of, because platforms set some of their own. Durations are written ` + "`30s`, `24h`, `95d`" + `, sizes ` + "`64KiB`, `1MiB`" + `.

A secret itself does not belong in a configuration. Where a key takes a reference, it is one of

- ` + "`vault:PATH#FIELD`" + `: a field of a secret in the KV version 2 engine at ` + "`secrets.vault.mount`" + `; ` + "`vault:MOUNT//PATH#FIELD`" + ` in another one
- ` + "`file:/PATH`" + `: the content of a file, without its last line break
- ` + "`env:NAME`" + `: an environment variable
`

func sectionOf(key string) string {
	if list, _, isList := strings.Cut(key, "[]"); isList {
		return list
	}
	first, _, nested := strings.Cut(key, ".")
	if !nested {
		return "The process"
	}
	return first
}
