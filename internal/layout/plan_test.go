package layout

// rooms names every package and which of ours it may import, directly. Imports go down: the commands use the application, which
// builds the parts, which know the contracts, which know the domain. A new package gets a line here, and a reason to exist.
// A line that ends in /* is for all packages of that folder that have no line of their own.
var rooms = map[string][]string{
	"cmd/rollcall": {
		"handlers", "internal/app", "internal/audit", "internal/binder", "internal/config", "internal/directory", "internal/inventory", "internal/provider",
		"internal/provider/*", "internal/reconcile", "internal/rehearsal", "internal/simulator", "internal/spelling", "internal/status", "internal/store", "queue", "secrets", "verify",
	},

	// app alone opens outside services, so it alone names the two databases.
	"internal/app": {
		"handlers", "handlers/admin", "internal/audit", "internal/binder", "internal/config", "internal/directory", "internal/inventory", "internal/poller",
		"internal/provider", "internal/provider/*", "internal/reconcile", "internal/rehearsal", "internal/status", "internal/store", "internal/store/postgres",
		"internal/store/sqlite", "internal/worker", "queue",
		"secrets", "verify",
	},
	"internal/config": {"internal/directory", "internal/provider", "internal/provider/*", "internal/spelling", "queue", "secrets", "verify"},

	"handlers":           {"internal/provider", "queue", "secrets", "verify"},
	"handlers/admin":     {"handlers", "internal/store", "queue"},
	"internal/poller":    {"internal/provider", "internal/provider/operator", "internal/provider/repair", "internal/store", "queue"},
	"internal/worker":    {"internal/directory", "internal/provider", "internal/provider/operator", "internal/provider/repair", "internal/store", "queue"},
	"internal/reconcile": {"internal/directory", "internal/provider", "internal/provider/repair", "internal/store", "queue"},
	"internal/binder":    {"internal/directory", "internal/store", "verify"},
	"internal/inventory": {"internal/directory", "internal/store"},
	"internal/audit":     {"internal/inventory", "internal/provider"},
	"internal/status":    {"internal/directory", "internal/store"},
	"internal/rehearsal": {"internal/binder", "internal/directory", "internal/store"},
	"internal/simulator": {"internal/directory", "internal/provider", "internal/provider/*", "internal/store", "verify"},

	"internal/provider":       {"internal/directory", "verify"},
	"internal/provider/*":     {"internal/directory", "internal/provider", "verify"},
	"internal/store":          {"internal/directory"},
	"internal/store/table":    {"internal/directory", "internal/store"},
	"internal/store/postgres": {"internal/directory", "internal/spelling", "internal/store", "internal/store/table"},
	"internal/store/sqlite":   {"internal/directory", "internal/store", "internal/store/table"},

	"verify":             {},
	"queue":              {},
	"secrets":            {},
	"internal/directory": {},
	"internal/spelling":  {},

	// Suites and servers for tests. Nothing but tests, and each other, may import them.
	"internal/directory/directorytest": {"internal/directory"},
	"internal/store/storetest":         {"internal/directory", "internal/directory/directorytest", "internal/store"},
	"internal/testenv":                 {},
	"queue/queuetest":                  {"queue"},
	"secrets/secretstest":              {"secrets"},

	// Tests of the whole program.
	"test/*":   {anything},
	"examples": {},

	"internal/layout": {},
}

const (
	// anything stands for every package, or every library.
	anything = "*"
	// anywhere stands for every package but the pure ones.
	anywhere = "any but the pure packages"
	// tests stands for test files, and packages that only they import.
	tests = "tests"
)

// libraries says where each outside library may be imported. Tests may import all of them. A library that is not here is a decision
// to be written down in docs/decisions, and a line here.
var libraries = map[string][]string{
	"github.com/labstack/echo/v4":                             {"handlers", "handlers/admin"},
	"github.com/redis/go-redis/v9":                            {"queue"},
	"modernc.org/sqlite":                                      {"queue", "internal/store/sqlite"},
	"github.com/hashicorp/vault/api":                          {"secrets"},
	"github.com/jackc/pgx/v5":                                 {"internal/store/postgres"},
	"github.com/go-jose/go-jose/v4":                           {"verify"},
	"github.com/spf13/cobra":                                  {"cmd/rollcall"},
	"github.com/spf13/pflag":                                  {"cmd/rollcall", "internal/config"},
	"github.com/mattn/go-isatty":                              {"cmd/rollcall"},
	"github.com/knadh/koanf":                                  {"internal/config"},
	"github.com/go-viper/mapstructure/v2":                     {"internal/config"},
	"go.yaml.in/yaml/v3":                                      {"internal/config"},
	"github.com/rs/zerolog":                                   {anywhere},
	"github.com/prometheus/client_golang":                     {anywhere},
	"github.com/cenkalti/backoff/v5":                          {anywhere},
	"golang.org/x/sync":                                       {anywhere},
	"golang.org/x/time":                                       {anywhere},
	"github.com/google/go-cmp":                                {tests},
	"github.com/prometheus/client_model":                      {tests},
	"github.com/prometheus/common":                            {tests},
	"github.com/rogpeppe/go-internal":                         {tests},
	"github.com/prometheus/client_golang/prometheus/testutil": {tests},

	// Of the standard library, what would link test code into the binary, and what only speaks to databases may name.
	"testing":           {tests},
	"net/http/httptest": {tests},
	"database/sql":      {"queue", "internal/app", "internal/binder", "internal/inventory", "internal/rehearsal", "internal/store", "internal/store/postgres", "internal/store/sqlite", "internal/store/table"},
}

// pure names the packages that know nothing but values, and what of the standard library they do without: files, networks, logs.
// They read no clock either.
var pure = map[string][]string{
	"internal/directory": {"crypto/rand", "log", "math/rand", "net", "os", "syscall"},
	"verify":             {"crypto/rand", "log", "math/rand", "net", "os", "syscall"},
}

// pureMay are the exceptions to pure.
var pureMay = map[string][]string{
	"verify": {"net/http", "net/url"}, // a header, and the name of a place in it
}
