package audit

import (
	"slices"
	"strings"
)

// limits are what no listing shows of directories of a type, as the providers' pages and trackers have it. An empty type is any.
var limits = []struct{ kind, text string }{
	{"", "what happens in a directory before its provider hears of it: people whom the customer forgot to remove there, too"},
	{"", "sessions, API keys and other access that a disabled account may still have: probes look for them once bindings run"},
	{"okta", "Okta: a user who is suspended there, and not deactivated, stays active here; so does a membership that Okta never pushed again after the group was unassigned (Push now does)"},
	{"gsuite", "Google Workspace: it is read about every 30 minutes, so that whoever left since is still listed"},
	{"azure", "Entra: it provisions about every 40 minutes, so that whoever left since is still listed"},
	{"scim", "SCIM: a user whom the provider holds as Validating is not listed, and looks like one that is gone"},
}

// unseen returns what cannot be seen of these directories.
func unseen(directories []listed) (out []string) {
	for _, l := range limits {
		if slices.ContainsFunc(directories, func(d listed) bool { return strings.Contains(strings.ToLower(d.Type), l.kind) }) || l.kind == "" {
			out = append(out, l.text)
		}
	}
	return out
}
